"""Times to live, by the clock as it is."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from .conftest import Factory
from .helpers import LARGE, later


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_expired_value_never_returns(cache_factory: Factory, size: int) -> None:
    cache = cache_factory(ttl=1000)
    cache["default"] = bytes(size)
    cache.set("short", bytes(size), ttl=0.02)
    cache.set("ever", bytes(size), ttl=math.inf)
    later(0.03)
    assert "short" not in cache
    assert cache.get("short") is None
    assert cache.pop("short", None) is None
    assert cache.ttl("short") is None
    assert not cache.touch("short")
    assert cache.delete_many(["short"]) == 0
    assert sorted(cache) == ["default", "ever"] == sorted(key for key, _ in cache.items())
    assert len(cache) == 2
    assert cache.add("short", 1)
    assert cache["short"] == 1


def test_how_long_values_live(cache_factory: Factory) -> None:
    cache = cache_factory(ttl=1000)
    cache["a"] = 1
    cache.set("b", 2, ttl=datetime.timedelta(seconds=500))
    cache.set("c", 3, ttl=math.inf)
    cache.set("d", 4, ttl=lambda value: value * 10)
    cache.get_or_set("e", lambda: 5, ttl=50)
    cache.set_many({"f": 6}, ttl=60)
    assert cache.add("g", 7, ttl=70)
    cache.get_or_set("h", lambda: 8)
    for key, most in {"a": 1000, "b": 500, "d": 40, "e": 50, "f": 60, "g": 70, "h": 1000}.items():
        assert most - 10 < cache.ttl(key) <= most
    assert cache.ttl("c") == math.inf
    cache.set("b", 3)
    assert cache.ttl("b") > 900, "to store again is to start over"
    assert cache_factory().ttl("never there") is None


def test_a_cache_whose_values_tell_how_long_they_live(cache_factory: Factory) -> None:
    cache = cache_factory(ttl=lambda value: value["seconds"])
    cache["a"] = {"seconds": 100}
    cache["b"] = {"seconds": None}
    cache["c"] = {"seconds": 0}
    assert 90 < cache.ttl("a") <= 100
    assert cache.ttl("b") == math.inf
    assert "c" not in cache
    assert cache.touch("a")
    assert 90 < cache.ttl("a") <= 100


def test_touch(cache_factory: Factory) -> None:
    cache = cache_factory(ttl=1000)
    for key, value in (("empty", b""), ("small", b"v"), ("large", b"v" * LARGE)):
        cache[key] = value
        assert cache.touch(key, 10)
        assert cache.ttl(key) <= 10
        assert cache.touch(key), "the cache's own again"
        assert 990 < cache.ttl(key) <= 1000
        assert cache.touch(key, datetime.timedelta(seconds=5))
        assert cache.ttl(key) <= 5
        assert cache.touch(key, math.inf)
        assert cache.ttl(key) == math.inf
        assert cache[key] == value
        assert cache.touch(key, 0)
        assert key not in cache
        assert not cache.touch(key, 10)
        with pytest.raises(ValueError, match="ttl must not be negative"):
            cache.touch(key, -1)


@pytest.mark.parametrize("ttl", [-1, -0.001, math.nan, -math.inf])
def test_bad_times(cache: Any, ttl: float) -> None:
    stores: list[Callable[[], Any]] = [
        lambda: cache.set("k", 1, ttl=ttl),
        lambda: cache.get_or_set("k", lambda: 1, ttl=ttl),
        lambda: cache.add("k", 1, ttl=ttl),
        lambda: cache.set_many({"k": 1}, ttl=ttl),
    ]
    for wrong in stores:
        with pytest.raises(ValueError, match="ttl must not be negative"):
            wrong()
    assert "k" not in cache
    cache["k"] = 1
    with pytest.raises(ValueError, match="ttl must not be negative"):
        cache.get_or_set("k", lambda: 1, ttl=ttl)
    with pytest.raises(ValueError, match="ttl must not be negative"):
        cache.touch("k", ttl)
    assert cache["k"] == 1


@pytest.mark.parametrize("ttl", ["x", "3", b"3", 1j, []])
def test_what_is_no_time(cache: Any, ttl: Any) -> None:
    with pytest.raises(TypeError, match="ttl must be a number of seconds"):
        cache.set("k", 1, ttl=ttl)


@pytest.mark.parametrize("ttl", [100, 100.5, Fraction(201, 2), 10**400, True])
def test_what_is_a_time(cache_factory: Factory, ttl: Any) -> None:
    cache = cache_factory(ttl=ttl if ttl is not True else 100)
    cache["k"] = 1
    assert cache["k"] == 1
    assert cache.ttl("k") > 0


def test_no_time_at_all(cache: Any) -> None:
    cache["k"] = 1
    cache.set("k", 2, ttl=0)
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: 3, ttl=0) == 3
    assert "k" not in cache


def test_for_ever_where_the_cache_has_a_ttl(cache_factory: Factory) -> None:
    cache = cache_factory(ttl=0.02)
    cache.set("k", 1, ttl=math.inf)
    cache.set_many({"l": 2}, ttl=math.inf)
    assert cache.get_or_set("m", lambda: 3, ttl=math.inf) == 3
    cache["n"] = 4
    later(0.03)
    assert cache.get_many("klmn") == {"k": 1, "l": 2, "m": 3}
