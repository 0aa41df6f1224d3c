"""What is simulated is what happens: the same policy on numbers and in a cache."""

from __future__ import annotations

import random

import pytest

import mvolatile.cache.eviction as eviction
from mvolatile import VolatileCache
from mvolatile.cache.eviction.simulated import Simulated


def trace(seed: int, requests: int = 20_000) -> list[tuple[int, int]]:
    """Some keys often, most once, each with its size."""
    rng = random.Random(seed)
    keys = [int(rng.paretovariate(0.6)) % 5000 for _ in range(requests)]
    sizes = [rng.choice([20, 200, 900]) for _ in range(5000)]
    return [(key, sizes[key]) for key in keys]


@pytest.mark.parametrize("name", list(eviction.POLICIES))
def test_as_many_hits_as_in_a_cache(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "DEFAULT", name)
    most = 100_000
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=most)
    simulated = Simulated(eviction.POLICIES[name], max_bytes=most)
    hits = 0
    for key, size in trace(1):
        simulated.access(key, size)
        if cache.get(key) is None:
            cache[key] = bytes(size)
        else:
            hits += 1
    assert abs(simulated.hits - hits) <= 0.01 * 20_000
    assert simulated.hits > 5000


@pytest.mark.parametrize("name", list(eviction.POLICIES))
@pytest.mark.parametrize("segment", [1, 4096, None])
def test_bounds_hold(name: str, segment: int | None) -> None:
    bytes_, entries = (
        Simulated(eviction.POLICIES[name], 50_000, None, segment),
        Simulated(eviction.POLICIES[name], None, 100, segment),
    )
    for key, size in trace(2, 5000):
        bytes_.access(key, size)
        entries.access(key, size)
        assert bytes_.nbytes <= 50_000
        assert len(entries.index) <= 100
        assert sum(bytes_.counts()) == sum(entries.counts())
    assert len(entries.index) == 100


def test_sieve_value_by_value_is_sieve() -> None:
    """With room for seven: what was visited stays, and a scan does not push it out."""
    kept = Simulated(eviction.POLICIES["sieve"], maxsize=7, segment=1)
    for key in "abcdefg":
        kept.access(key)
    for key in "abg":
        assert kept.access(key)
    for key in "hi":
        kept.access(key)
    assert set(kept.index) == set("abefghi")
    assert kept.access("a")
