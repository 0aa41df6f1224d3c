"""Entries that are mostly keys and index, and many caches that are mostly open segments.

The kernel can take neither, and the process must not be killed for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mvolatile as mv
from support.cgroups import Limited

MIB = 1 << 20
pytestmark = [
    pytest.mark.skipif(not mv.features().can_purge, reason="nothing is purged here"),
    pytest.mark.timeout(900),
]


def store_small_values(count: int, key_of: str, size: int, ttl: float | None) -> None:
    import mvolatile as mv

    make_key: Any = {"int": int, "str": "user:{:032}".format}[key_of]
    cache = mv.VolatileCache(ttl=ttl)
    recent = wrong = asked = 0
    for number in range(count):
        cache[make_key(number)] = number.to_bytes(size, "little")
        if number % 64 == 63:
            for age in (1, 1000, 50_000):
                asked += 1
                value = cache.get(make_key(max(0, number - age)))
                recent += value is not None
                wrong += value is not None and value != max(0, number - age).to_bytes(size, "little")
    assert not wrong
    # How far back the kernel leaves whole is its own affair: of three ages, the nearer two and some of the farthest.
    assert recent > 0.7 * asked, f"{recent} of {asked}"
    assert count // 30 < len(cache) < count // 2, len(cache)


@pytest.mark.slow
def test_a_million_small_values(run_limited: Callable[..., Limited]) -> None:
    done = run_limited(store_small_values, 56 * MIB, 1_000_000, "int", 16, None, timeout=800)
    assert done.oom_kills == 0, done
    done.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key_of", "size", "ttl"), [("int", 16, None), ("int", 16, 3600), ("str", 16, None), ("str", 100, None)]
)
def test_three_million_small_values(
    key_of: str, size: int, ttl: float | None, run_limited: Callable[..., Limited]
) -> None:
    done = run_limited(store_small_values, 112 * MIB, 3_000_000, key_of, size, ttl, timeout=800)
    assert done.oom_kills == 0, done
    done.check()


def call_a_function() -> None:
    """Whose values cost nothing to make: the guard would soon store few of them."""
    import mvolatile as mv
    from mvolatile.cache.guard import Guard

    Guard.stored = lambda *figures: None  # type: ignore[method-assign]

    @mv.volatile_cache
    def square(x: int) -> int:
        return x * x

    for x in range(2_000_000):
        assert square(x) == x * x
        if x % 64 == 63:
            assert square(x - 50) == (x - 50) ** 2
    info = square.cache_info()
    assert info.hits > 31_000 * 0.9
    assert info.currsize > 100_000


@pytest.mark.slow
def test_a_cached_function_of_an_integer(run_limited: Callable[..., Limited]) -> None:
    done = run_limited(call_a_function, 112 * MIB, timeout=800)
    assert done.oom_kills == 0, done
    done.check()


def store_nothing_much() -> None:
    import mvolatile as mv

    cache = mv.VolatileCache()
    for number in range(2_000_000):
        cache[number] = b""
    assert cache[1_999_999] == b""
    assert len(cache) < 1_500_000


@pytest.mark.slow
def test_values_of_no_bytes(run_limited: Callable[..., Limited]) -> None:
    """There is nothing for the kernel to take, and so nothing to learn from."""
    done = run_limited(store_nothing_much, 112 * MIB, timeout=800)
    assert done.oom_kills == 0, done
    done.check()


def fill_many_caches() -> None:
    import random

    import mvolatile as mv

    caches = [mv.VolatileCache(name=f"c{i}") for i in range(2500)]
    for i, cache in enumerate(caches):
        for key in range(14):
            cache[key] = bytes([i % 251]) * 4000
    rng = random.Random(1)
    hits = 0
    for _ in range(30_000):
        i = rng.randrange(2500) if rng.random() < 0.5 else rng.randrange(50)
        value = caches[i].get(3)
        if value is None:
            caches[i][3] = bytes([i % 251]) * 4000
        else:
            assert value == bytes([i % 251]) * 4000
            hits += 1
    assert hits > 10_000


def test_many_small_caches(run_limited: Callable[..., Limited]) -> None:
    """140 MB in all, each cache's share smaller than what one alone would keep open."""
    done = run_limited(fill_many_caches, 128 * MIB, timeout=800)
    assert done.oom_kills == 0, done
    done.check()
