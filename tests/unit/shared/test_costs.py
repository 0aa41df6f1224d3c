"""What saves least goes first: what a value took to make is told to the keeper, whose eviction weighs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import SharedCache

SIZE = 1000
KEYS = 600

Make = Callable[..., SharedCache[Any, Any]]


def kept(cache: SharedCache[Any, Any], kind: str) -> int:
    return sum((kind, n) in cache for n in range(KEYS))


def test_what_is_dear_stays_longer(make: Make) -> None:
    """All are used alike, and the bound leaves room for a half of them."""
    cache = make(max_bytes=KEYS * SIZE)
    for _ in range(6):
        for n in range(KEYS):
            for kind, cost in (("dear", 1.0), ("cheap", 0.001)):
                if cache.get((kind, n)) is None:
                    cache.set((kind, n), bytes(SIZE), cost=cost)
    assert kept(cache, "dear") > 2 * kept(cache, "cheap")


def test_a_makers_time_is_its_values_cost(make: Make) -> None:
    """Without that of another value, which is there afterwards."""
    cache = make()

    def slow() -> bytes:
        time.sleep(0.02)
        return b"slow"

    cache["keeper"] = b"there"
    began = time.perf_counter()
    cache.get_or_set("outer", lambda: cache.get_or_set("inner", slow))
    took = time.perf_counter() - began
    assert 0.02 <= cache.cache_info().spent_seconds <= took


def test_errors(make: Make) -> None:
    cache = make()
    with pytest.raises(ValueError, match="cost"):
        cache.set("k", 1, cost=-1)
    with pytest.raises(TypeError, match="cost"):
        cache.add("k", 1, cost="1")  # type: ignore[arg-type]
