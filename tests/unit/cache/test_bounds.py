"""`max_bytes`, `maxsize`, and what is kept."""

from __future__ import annotations

import inspect
import math
import random
from typing import Any

import pytest

import mvolatile as mv
from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid


@pytest.mark.parametrize("max_bytes", [20_000, 100_000, 1_000_000])
@pytest.mark.parametrize("size", [100, 700, 4000])
def test_max_bytes_is_never_exceeded(max_bytes: int, size: int) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes)
    for i in range(3 * max_bytes // size):
        cache[i] = i.to_bytes(4, "little") * (size // 4)
        assert engine_of(cache).store.nbytes <= max_bytes
        if i % 3 == 0:
            cache.get(i // 2)
    is_valid(cache)
    assert engine_of(cache).store.nbytes > 0.5 * max_bytes
    for i, value in cache.items():
        assert value == i.to_bytes(4, "little") * (size // 4)


@pytest.mark.parametrize("max_bytes", [64 << 10, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 300, 1100, 4200, 9000, 15_000])
def test_the_memory_is_bounded_too(max_bytes: int, size: int) -> None:
    rng = random.Random(1)
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes)
    fits = max_bytes // max(size, 8)
    segment = max(max_bytes // 64, 3 * size + 4096)
    for i in range(min(4 * fits, 40_000)):
        cache[i] = bytes(size)
        cache.get(rng.randrange(max(0, i - fits), i + 1))
        if i % (fits // 8 + 1) == 0:
            assert (cache.cache_info().resident_bytes or 0) <= max_bytes * 4 / 3 + 4 * segment
    assert len(cache) <= max_bytes // max(size, 1)
    is_valid(cache)


def test_large_values_count_too() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(1_000_000)
    for i in range(30):
        cache[i] = bytes([i]) * 150_000
        assert engine_of(cache).store.nbytes <= 1_000_000
        assert cache[i] == bytes([i]) * 150_000
    assert len(cache) == 6


def test_what_is_read_is_kept() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(200_000)
    for i in range(20_000):
        cache[i] = b"x" * 100
        for hot in range(0, min(i, 500), 50):
            cache.get(hot)
    assert all(hot in cache for hot in range(0, 500, 50))
    assert 1 not in cache


def test_a_value_that_can_never_fit() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(1000)
    cache["k"] = b"small"
    with pytest.raises(ValueError, match="larger than max_bytes=1000"):
        cache["k"] = bytes(1001)
    assert "k" not in cache, "the old value is out of date"
    assert cache.get_or_set("k", lambda: bytes(2000)) == bytes(2000)
    assert "k" not in cache
    cache["k"] = bytes(1000)
    assert cache["k"] == bytes(1000)


def test_maxsize_bounds_the_entries() -> None:
    cache: VolatileCache[int, int] = VolatileCache(maxsize=100)
    for i in range(5000):
        cache[i] = i
        assert len(cache) <= 100
    assert cache.cache_info().maxsize == 100
    assert all(cache[i] == i for i in cache)
    nothing: VolatileCache[int, int] = VolatileCache(maxsize=0)
    nothing[1] = 1
    assert len(nothing) == 0


def test_resize() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    for i in range(10_000):
        cache[i] = bytes(100)
    cache.resize(100_000)
    info = cache.cache_info()
    assert info.bytes <= 100_000
    assert 500 < info.currsize <= 1000
    cache.resize(None)
    for i in range(10_000):
        cache[i] = bytes(100)
    assert len(cache) == 10_000
    for wrong in (-1, -(10**9)):
        with pytest.raises(ValueError, match="max_bytes must not be negative"):
            cache.resize(wrong)
    with pytest.raises(ValueError, match="maxsize must not be negative"):
        VolatileCache(maxsize=-1)


@pytest.mark.parametrize("wrong", [1.5, math.nan, "a", [1]])
def test_bounds_are_integers(wrong: Any) -> None:
    makers: list[Any] = [VolatileCache, lambda n: VolatileCache(maxsize=n), VolatileCache().resize]
    for make in makers:
        with pytest.raises(TypeError, match=r"must be an integer or None"):
            make(wrong)


@pytest.mark.parametrize(
    "wrong", [{"on_lost": 5}, {"timer": 5}, {"timer": None}, {"codec": 5}, {"name": b"x"}]
)
def test_arguments_are_checked_when_a_cache_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(wrong))} must"):
        VolatileCache(**wrong)


def test_the_bytes_of_a_time_to_live_count() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(max_bytes=100)
    cache["k"] = bytes(100)
    with pytest.raises(mv.TooLargeError, match="takes 108 bytes is larger than max_bytes=100"):
        cache.set("k", bytes(100), ttl=5)


def test_get_takes_its_key_by_position() -> None:
    assert str(inspect.signature(VolatileCache.get)) == "(self, key, /, default=None)"
    with pytest.raises(TypeError, match="get"):
        VolatileCache().get(key="k")  # type: ignore[call-overload]


def test_a_thousand_caches() -> None:
    caches = [VolatileCache[int, int](name=f"c{i}") for i in range(1000)]
    for i, cache in enumerate(caches):
        cache[0] = i
        cache[1] = -i
    assert all(cache[0] == i and cache[1] == -i for i, cache in enumerate(caches))
    for cache in caches:
        cache.close()


def test_the_memory_is_given_back() -> None:
    from support.leaks import assert_no_growth

    def use() -> None:
        with VolatileCache() as cache:
            cache.update({i: random.randbytes(100) for i in range(2000)})
            cache["large"] = bytes(100_000)
            cache["view"] = memoryview(bytes(100_000))
            assert cache["view"].nbytes == 100_000

    assert_no_growth(use, rounds=20, warmup=5)
