"""W-TinyLFU and its parts: what it keeps, what it costs."""

from __future__ import annotations

import random
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable

import pytest

from mvolatile import VolatileCache
from mvolatile._core import Miniatures, Sketch
from mvolatile.cache.eviction import make_policy
from mvolatile.cache.eviction.miniature import CHOICES
from mvolatile.cache.eviction.policy import KEPT
from mvolatile.cache.eviction.simulated import Simulated, SimulatedRegion

from ..helpers import count_moves, is_valid

SIZE = 100


def lru_hits(trace: list[int], entries: int) -> int:
    there: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        hits += key in there
        there[key] = None
        there.move_to_end(key)
        if len(there) > entries:
            there.popitem(last=False)
    return hits


def our_hits(trace: list[int], entries: int) -> int:
    return sum(map(Simulated(make_policy, maxsize=entries).access, trace, [SIZE] * len(trace)))


# ---- what it keeps


def loop(rng: random.Random, requests: int) -> list[int]:
    return [step % 1000 for step in range(requests)]


def skewed(rng: random.Random, requests: int) -> list[int]:
    return [int(rng.paretovariate(0.7)) % 5000 for _ in range(requests)]


def skewed_with_scans(rng: random.Random, requests: int) -> list[int]:
    return [10_000 + step if step % 3000 < 1000 else key for step, key in enumerate(skewed(rng, requests))]


def drifting(rng: random.Random, requests: int) -> list[int]:
    return [step // 10 + int(rng.paretovariate(0.7)) % 2000 for step in range(requests)]


def recent(rng: random.Random, requests: int) -> list[int]:
    """What was asked for is asked for again soon."""
    trace = list(range(50))
    for step in range(requests):
        trace.append(100 + step if rng.random() < 0.2 else trace[-int(rng.paretovariate(0.8)) % len(trace)])
    return trace


KINDS = [loop, skewed, skewed_with_scans, drifting, recent]


def test_what_is_used_often_survives_scans_and_loops() -> None:
    trace = loop(random.Random(1), 30_000)
    assert lru_hits(trace, 250) == 0
    assert our_hits(trace, 250) > 0.2 * len(trace)
    trace = skewed_with_scans(random.Random(1), 30_000)
    assert our_hits(trace, 250) > lru_hits(trace, 250) + 0.02 * len(trace)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entries", [30, 400])
def test_never_far_behind_lru(
    kind: Callable[[random.Random, int], list[int]], entries: int, seed: int
) -> None:
    trace = kind(random.Random(seed), 30_000)
    assert our_hits(trace, entries) > lru_hits(trace, entries) - 0.03 * len(trace)


def test_what_is_used_twice_at_once_is_not_compared() -> None:
    """Against those that gathered counts for long it would lose."""
    cache = Simulated(make_policy, maxsize=200)
    for key in list(range(200)) * 10:
        cache.access(key)
    for key in range(1000, 1100):
        for _ in range(3):
            cache.access(key)
    for key in range(2000, 2400):
        cache.access(key)
    assert sum(key in cache.index for key in range(1000, 1100)) > 50


def test_what_is_used_often_is_passed_over_more_than_once() -> None:
    """But not so often that a store would wait for it."""
    cache = Simulated(make_policy, maxsize=200)
    for visits, left in [(1, 0), (2, 1), (5, 2), (255, 3)]:
        region = SimulatedRegion(1, KEPT)
        region.append("key", 1, visits, 0)
        assert cache.policy.visited(region, 0) == (KEPT, left)
    unused = SimulatedRegion(1, KEPT)
    unused.append("key", 1, 0, 0)
    assert cache.policy.visited(unused, 0) is None


def test_equals_do_not_take_turns() -> None:
    """Forward and back the smallest window and none at all are as good, and ahead by turns. Each change is paid for."""
    there_and_back = [*range(2000), *reversed(range(2000))] * 10
    assert our_hits(there_and_back, 200) > lru_hits(there_and_back, 200) - 0.01 * len(there_and_back)


@pytest.mark.parametrize("seed", range(4))
def test_one_kind_after_another(seed: int) -> None:
    rng = random.Random(seed)
    trace = [key + 100_000 * part for part in range(3) for key in rng.choice(KINDS)(rng, 15_000)]
    assert our_hits(trace, 300) > lru_hits(trace, 300) - 0.03 * len(trace)


def test_as_many_hits_with_a_bound_on_entries_as_simulated() -> None:
    trace = skewed_with_scans(random.Random(5), 20_000)
    with VolatileCache[int, bytes](maxsize=200) as cache:
        hits = 0
        for key in trace:
            if cache.get(key) is None:
                cache[key] = bytes(SIZE)
            else:
                hits += 1
        assert is_valid(cache)
    assert abs(hits - our_hits(trace, 200)) < 0.01 * len(trace)


# ---- what it costs


def test_a_full_cache_is_not_copied() -> None:
    """All was new, and most is to be in the main part: by regions. No store pays for that."""
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=4_000_000)
    for key in range(40_000):
        cache[key] = bytes(SIZE)
    moved = count_moves(cache)
    for key in range(40_000, 40_100):
        cache[key] = bytes(SIZE)
    assert len(moved) < 1000


@pytest.mark.slow
def test_eight_bytes_an_entry_at_most() -> None:
    """Beside some 60 KiB a cache, however many entries it has."""
    for entries in (100, 20_000):
        cache: VolatileCache[int, bytes] = VolatileCache(maxsize=entries)
        tracemalloc.start()
        for key in range(2 * entries):
            cache[key] = b"small"
            cache.get(key - 1)
        callers = ("eviction/*", "reclaim.py")  # what C takes for them
        parts = [tracemalloc.Filter(True, f"*/mvolatile/cache/{name}") for name in callers]
        taken = tracemalloc.take_snapshot().filter_traces(parts).statistics("filename")
        tracemalloc.stop()
        assert sum(each.size for each in taken) < 8 * entries + (60 << 10)
        assert sum(each.size for each in taken) > Sketch(entries).nbytes


def test_forgotten_keys_die() -> None:
    class Key:
        died = 0

        def __del__(self) -> None:
            Key.died += 1

    cache: VolatileCache[Key, int] = VolatileCache(maxsize=20)
    for _ in range(50):
        cache[Key()] = 1
    cache.clear()
    assert Key.died == 50


# ---- its parts


def test_a_sketch_counts() -> None:
    sketch = Sketch(1000)
    assert [sketch.add(7) for _ in range(3)] == [1, 2, 3]
    assert sketch.estimate(7) == 3
    assert sketch.add(7, 100) == 15
    assert sketch.add(8, 0) == sketch.estimate(8) == 0
    assert sketch.add(hash("a"), 2) == 2
    with pytest.raises(TypeError):
        sketch.add("a")  # type: ignore[arg-type]


def test_a_sketch_is_right_for_most_and_never_too_low() -> None:
    rng, sketch = random.Random(1), Sketch(1000)
    counts = {key: 1 + rng.randrange(5) for key in range(3000)}
    for key, count in counts.items():
        sketch.add(key, count)
    estimates = {key: sketch.estimate(key) for key in counts}
    assert all(estimates[key] >= counts[key] for key in counts)
    assert sum(estimates[key] == counts[key] for key in counts) > 2500


@pytest.mark.parametrize("entries", [10, 900, 1100, 5000, 3000])
def test_a_sketch_that_is_resized_knows_as_much(entries: int) -> None:
    sketch = Sketch(1000)
    for key in range(500):
        sketch.add(key, 1 + key % 9)
    sketch.resize(entries)
    assert sketch.entries == entries
    assert sketch.nbytes <= max(2048, 7 * entries)
    assert all(sketch.estimate(key) >= 1 + key % 9 for key in range(500))


def test_a_sketch_forgets() -> None:
    sketch = Sketch(100)
    sketch.add(1, 15)
    for key in range(2, 2500):
        sketch.add(key)
    assert sketch.estimate(1) == 7


def best_choice(trace: list[int], entries: int) -> int:
    miniatures = Miniatures(CHOICES)
    for key in trace:
        miniatures.request(key, 1, entries)
    hits = miniatures.hits()
    return hits.index(max(hits))


def test_miniatures_know_loops_from_recency() -> None:
    rng = random.Random(2)
    assert best_choice([step % 300 for step in range(10_000)], 100) == 0
    assert best_choice(drifting(rng, 20_000), 200) == len(CHOICES) - 1


def test_miniatures_know_when_others_become_popular() -> None:
    """There what comes back is let in, whatever the others were once."""
    rng = random.Random(2)
    weights = [1 / (rank + 1) ** 0.9 for rank in range(2000)]
    trace: list[int] = []
    for _ in range(12):
        trace += rng.choices(rng.sample(range(2000), 2000), weights, k=4000)
    assert CHOICES[best_choice(trace, 200)].enough


def test_miniatures_of_fewer_keys() -> None:
    """Those that are sampled no more are gone, whatever is done to them; the rest go on."""
    rng = random.Random(3)
    miniatures = Miniatures(((0.1, 0, 0), (0.1, 0, 2), (1.0, 0, 0)))
    below = 1 << 32
    for step in range(50_000):
        if step % 10_000 == 9999:
            below //= 2
            miniatures.keep(below)
        number = (int(rng.paretovariate(0.5)) * 2654435761) % (1 << 32)
        if number < below:
            miniatures.request(number, rng.randrange(4), rng.choice([2, 50, 499, 1000.0, float("inf")]))
    assert all(hits > 0 for hits in miniatures.hits())
    with pytest.raises(ValueError, match="choices"):
        Miniatures(())
    with pytest.raises(OverflowError):
        miniatures.keep(-1)
