"""A policy is added in one file (`lfu.py`) and one line, and runs under every bound there is."""

from __future__ import annotations

import random

import pytest

import mvolatile.cache.eviction as eviction
from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of
from mvolatile.cache.eviction.simulated import Simulated
from support.cgroups import run_limited

from ..helpers import is_valid
from .lfu import LFU

SIZE = 1000


@pytest.fixture
def lfu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(eviction.POLICIES, "lfu", LFU)  # the line
    monkeypatch.setattr(eviction, "DEFAULT", "lfu")


def hit_ratio_of_the_popular(cache: VolatileCache[int, bytes]) -> float:
    """What is asked for often stays, whatever passes through meanwhile."""
    rng, hits, asked = random.Random(3), 0, 0
    for step in range(40_000):
        popular = step % 4 == 0
        key = rng.randrange(50) if popular else 1000 + step
        value = cache.get(key)
        if value is None:
            cache[key] = b"%d;" % key * (SIZE // 6)
        else:
            assert value == b"%d;" % key * (SIZE // 6)
        if popular and step > 10_000:
            hits += value is not None
            asked += 1
    return hits / asked


@pytest.mark.usefixtures("lfu")
def test_under_max_bytes() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=200 * SIZE)
    assert isinstance(engine_of(cache).policy, LFU)
    assert hit_ratio_of_the_popular(cache) > 0.85
    assert engine_of(cache).store.nbytes <= 200 * SIZE
    assert is_valid(cache)


@pytest.mark.usefixtures("lfu")
def test_under_maxsize() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(maxsize=200)
    assert hit_ratio_of_the_popular(cache) > 0.85
    assert len(cache) <= 200
    assert is_valid(cache)


@pytest.mark.usefixtures("lfu")
def test_with_large_values() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=10 * 100_000)
    for n in range(100):
        cache[n] = bytes(100_000)
        assert n < 5 or all(len(cache[key]) == 100_000 for key in range(5)), "visited each time"
    assert is_valid(cache)


def test_the_same_on_numbers_alone() -> None:
    rng, kept = random.Random(3), Simulated(LFU, max_bytes=200 * SIZE)
    hits = []
    for step in range(10_000):
        hits.append(kept.access(rng.randrange(50), SIZE))
        for passing in range(3):
            kept.access(1000 + 3 * step + passing, SIZE)
    assert sum(hits[2500:]) > 0.85 * len(hits[2500:])


def run(directory: str) -> None:
    """In a child with a limit: 300 MiB pass through 96, and what is visited all the time stays."""
    import sys

    sys.path.insert(0, directory)
    import lfu  # type: ignore[import-not-found]

    import mvolatile.cache.eviction as policies
    from mvolatile import VolatileCache as Cache
    from mvolatile.cache.engine import engine_of as inside

    policies.POLICIES["lfu"], policies.DEFAULT = lfu.LFU, "lfu"
    cache = Cache()
    wrong = lost = 0
    for key in range(30_000):
        cache[key] = b"%09d;" % key * 1000
        for popular in range(key % 10, 200, 10):
            value = cache.get(popular)
            wrong += value is not None and value != b"%09d;" % popular * 1000
            if value is None and popular < key:
                lost += 1
                cache[popular] = b"%09d;" % popular * 1000
    assert isinstance(inside(cache).policy, lfu.LFU)
    assert cache.cache_info().purged, "the kernel took nothing"
    assert not wrong
    assert lost < 3000, lost
    assert all(cache.get(key) is None or cache[key] == b"%09d;" % key * 1000 for key in range(30_000))


@pytest.mark.usefixtures("needs_cgroup")
@pytest.mark.xdist_group("limits")
@pytest.mark.room_counted
def test_under_a_real_limit(request: pytest.FixtureRequest) -> None:
    done = run_limited(run, 96 << 20, str(request.path.parent))
    assert done.returncode == 0, f"{done}"
    assert done.oom_kills == 0
