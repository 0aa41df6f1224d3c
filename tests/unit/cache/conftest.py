"""A test's caches go when it ends, and their thread with them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _thread_ends(_leaves_nothing: None) -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "mvolatile-cache":
            thread.join(60)
