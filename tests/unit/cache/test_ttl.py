"""Times to live."""

from __future__ import annotations

import math
import weakref
from fractions import Fraction
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, seal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("sealed", [False, True])
def test_an_expired_value_never_returns(clock: Clock, size: int, sealed: bool) -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(ttl=10, timer=clock)
    cache["default"] = bytes(size)
    cache.set("short", bytes(size), ttl=1)
    cache.set("ever", bytes(size), ttl=math.inf)
    if sealed:
        seal(cache)
    clock.now += 0.999
    assert sorted(cache) == ["default", "ever", "short"]
    clock.now += 0.001
    assert "short" not in cache
    assert cache.get("short") is None
    assert cache.pop("short", None) is None
    assert cache["default"] == bytes(size)
    clock.now += 10
    assert list(cache) == ["ever"]
    clock.now -= 10
    assert cache.get("short") is None, "whatever the clock does"
    assert len(cache) == 1
    is_valid(cache)


def test_storing_again_starts_over(clock: Clock) -> None:
    cache: VolatileCache[str, int] = VolatileCache(ttl=10, timer=clock)
    cache["k"] = 1
    clock.now += 9
    cache["k"] = 2
    clock.now += 9
    assert cache["k"] == 2
    cache.set("k", 3, ttl=math.inf)
    clock.now += 1e9
    assert cache["k"] == 3


@pytest.mark.parametrize("size", [10, 100_000])
def test_expired_values_leave_though_nobody_asks_for_them(clock: Clock, size: int) -> None:
    cache: VolatileCache[object, bytes] = VolatileCache(timer=clock)
    count = 6000 if size == 10 else 20
    for i in range(count):
        cache.set(i, bytes(size), ttl=5)
        if i % 4 == 0:
            cache[str(i)] = bytes(10)
    clock.now += 6
    for i in range(2 * count):
        cache[i, "new"] = b""
    assert len(cache) == count // 4 + 2 * count
    assert engine_of(cache).store.nbytes < count * (size + 18) * 0.8
    is_valid(cache)


@pytest.mark.parametrize("ttl", [1, 1.5, Fraction(1, 2), 10**400, True])
def test_what_is_a_time(ttl: Any) -> None:
    cache: VolatileCache[str, int] = VolatileCache(ttl=ttl, timer=lambda: 0.0)
    cache["k"] = 1
    assert cache["k"] == 1


def test_users_keys_with_dead_weak_references_stay(clock: Clock) -> None:
    cache: VolatileCache[Any, int] = VolatileCache(ttl=100, timer=clock)
    owner = Clock()
    key = (weakref.ref(owner), 1)
    cache[key] = 5
    del owner
    assert key[0]() is None
    for i in range(200):
        cache[i] = i
    assert cache.get(key) == 5
