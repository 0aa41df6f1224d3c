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


def test_what_hits_saved(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds are in the table, so a hit knows them and asks nobody; and by way of the keeper it is told them."""
    cache = make()
    cache.set("told", b"x", cost=2.0)
    cache.set("not told", b"x")
    assert cache.cache_info().saved_seconds == 0
    for key in ("told", "told", "not told"):
        assert cache[key] == b"x"
    assert cache.cache_info().saved_seconds == pytest.approx(4, rel=0.05)
    assert "told" in cache, "is no hit"
    cache.update(dict.fromkeys(range(8000), b"x"))  # the table moves
    assert cache["told"] == b"x"
    assert cache.cache_info().saved_seconds == pytest.approx(6, rel=0.05)
    monkeypatch.setenv("MVOLATILE_SHARED_READ", "message")
    other = make()
    assert other["told"] == b"x"
    assert other.cache_info().saved_seconds == pytest.approx(2, rel=0.05)
    cache.set("told", b"y", cost=0.001)
    assert cache["told"] == b"y"
    assert cache.cache_info().saved_seconds == pytest.approx(6.001, rel=0.05)


def test_what_a_default_took_is_nothing(make: Make) -> None:
    """Nobody made it."""
    cache = make()
    assert cache.setdefault("key", b"x") == cache.setdefault("key", b"y") == b"x"
    info = cache.cache_info()
    assert (info.hits, info.misses, info.spent_seconds, info.saved_seconds) == (1, 1, 0, 0)


def test_many_have_one_cost(make: Make) -> None:
    cache = make()
    cache.set_many({1: b"x", 2: b"y"}, cost=1.0)
    assert cache.get_many([1, 2]) == {1: b"x", 2: b"y"}
    assert cache.cache_info().saved_seconds == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError, match="cost"):
        cache.set_many({1: b"x"}, cost=-1)
