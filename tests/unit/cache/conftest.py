"""A test's caches go when it ends, and their threads with them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from mvolatile.cache import pressure


@pytest.fixture(autouse=True)
def _thread_ends(_leaves_nothing: None) -> Iterator[None]:
    yield
    gc.collect()
    for engine in list(
        pressure.listeners.values()
    ):  # of a module's own functions: they listen again when they store
        engine.listening = False  # type: ignore[attr-defined]
        pressure.ignore(engine)
    for thread in threading.enumerate():
        if thread.name.startswith("mvolatile-"):
            thread.join(60)
