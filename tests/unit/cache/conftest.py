"""A test's caches go when it ends, and their threads with them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from support.leaks import join_threads, stop_listening


@pytest.fixture(autouse=True)
def _thread_ends(_leaves_nothing: None) -> Iterator[None]:
    yield
    gc.collect()
    stop_listening()
    join_threads()
