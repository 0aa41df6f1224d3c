"""What was just stored is there: room is made before it enters, and others pay for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import mvolatile.cache.eviction as eviction
from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, seal

SMALL, LARGE = 100, 100_000


def test_a_cache_of_one_makes_each_value_once() -> None:
    made = []

    @volatile_cache(maxsize=1)
    def load(name: str) -> bytes:
        made.append(name)
        return name.encode() * 1000

    for name in ("sam", "vit", "sam", "vit"):
        for _ in range(3):
            assert load(name) == name.encode() * 1000
    assert made == ["sam", "vit", "sam", "vit"]


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
@pytest.mark.parametrize("maxsize", [1, 2, 16, 128])
def test_the_newest_stays_when_all_others_were_hit(maxsize: int, size: int) -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache(maxsize=maxsize)
    for i in range(maxsize):
        cache[i] = bytes(size)
    for step in range(2 * maxsize):
        assert all(key in cache and cache[key] is not None for key in list(cache))
        cache["new", step] = b"n" * size
        assert ("new", step) in cache
        assert len(cache) == maxsize
    is_valid(cache)


@pytest.mark.parametrize("maxsize", [1, 3])
def test_to_replace_a_value_costs_no_other(maxsize: int) -> None:
    for size in (SMALL, LARGE):
        cache: VolatileCache[int, bytes] = VolatileCache(maxsize=maxsize)
        for _ in range(3):
            for i in range(maxsize):
                cache[i] = bytes(size)
                cache[i] = bytes(size + 1)
        assert sorted(cache) == list(range(maxsize))


def test_to_replace_a_large_value_costs_no_other() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(max_bytes=3 * LARGE)
    cache["a"], cache["b"] = bytes(LARGE), bytes(2 * LARGE)
    cache["b"] = b"b" * (2 * LARGE)
    cache["a"] = b"a" * LARGE
    assert cache["a"] == b"a" * LARGE
    assert cache["b"] == b"b" * (2 * LARGE)
    assert engine_of(cache).store.nbytes <= 3 * LARGE


def _all_bounds(seed: int) -> VolatileCache[int, bytes]:
    bounds = random.Random(seed)
    return VolatileCache(
        max_bytes=bounds.choice([None, LARGE + 1, 3 * LARGE]), maxsize=bounds.choice([None, 1, 2, 20])
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("policy", list(eviction.POLICIES))
def test_wherever_the_evictor_is(seed: int, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of all sizes, hit and not hit, one larger than all the rest together, whatever bounds there are."""
    monkeypatch.setattr(eviction, "DEFAULT", policy)
    rng, cache = random.Random(seed), _all_bounds(seed)
    actions: list[Callable[[], object]] = [
        lambda: cache.get(rng.randrange(60)),
        lambda: cache.pop(rng.randrange(60), None),
        lambda: seal(cache),
    ]
    for step in range(1500):
        key, size = rng.randrange(60), rng.choice([0, 1, SMALL, SMALL, 5000, LARGE if step % 7 else SMALL])
        cache[key] = b"%d" % (step % 10) * size
        assert cache.get(key) == b"%d" % (step % 10) * size
        for _ in range(rng.randrange(4)):
            rng.choice(actions[:1] * 10 + actions)()
        if engine_of(cache).budget.max_entries is not None:
            assert len(cache) <= (engine_of(cache).budget.max_entries or 0)
    is_valid(cache)


def test_the_newest_stays_under_the_allowance_too() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    for i in range(20):
        cache[i] = bytes(LARGE)
        cache.get(i)
    engine_of(cache).budget.allowance = float(engine_of(cache).store.footprint)
    for i in range(20, 60):
        for key in list(cache):
            cache.get(key)
        cache[i] = bytes(LARGE)
        assert i in cache


def test_a_smaller_bound_keeps_what_fits() -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache()
    for i in range(10):
        cache[i] = bytes(LARGE)
        cache.get(i)
    cache[None] = bytes(LARGE)
    cache.resize(LARGE)
    assert len(cache) == 1
    for bound in (1, 0):
        cache.resize(bound)
        assert len(cache) == 0
        cache.get_or_set(1, lambda: bytes(100))
        assert engine_of(cache).store.nbytes == 0
    cache.resize(None)
    cache[1] = b"again"
    assert cache[1] == b"again"
