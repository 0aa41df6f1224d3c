"""What saves least goes first: use x cost / bytes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.cost import class_of
from mvolatile.cache.engine import engine_of
from mvolatile.cache.eviction import make_policy
from mvolatile.cache.eviction.simulated import Simulated

from ..helpers import count_moves, is_valid

KEYS, REQUESTS = 2000, 40_000
Costs = dict[int, float]
Sizes = dict[int, int]


def requests() -> list[int]:
    rng = random.Random(1)
    order = rng.sample(range(KEYS), KEYS)
    return rng.choices(order, [1 / rank**0.8 for rank in range(1, KEYS + 1)], k=REQUESTS)


def drawn(seed: int) -> Costs:
    """Over a range of fifty times, whatever the size."""
    rng = random.Random(seed)
    return {key: 0.001 * 50 ** rng.random() for key in range(KEYS)}


def alike(seed: int) -> Costs:
    return dict.fromkeys(range(KEYS), 0.01)


def sizes(seed: int, spread: float) -> Sizes:
    rng = random.Random(seed)
    return {key: int(200 * spread ** rng.random()) for key in range(KEYS)}


def seconds(trace: list[int], size: Sizes, cost: Costs, told: Callable[[int], int], most: int) -> float:
    cache = Simulated(make_policy, max_bytes=most)
    return sum(cost[key] for key in trace if not cache.access(key, size[key], told(key)))


def gdsf(trace: list[int], size: Sizes, cost: Costs, most: int) -> float:
    there: dict[int, float] = {}
    uses: dict[int, int] = {}
    heap: list[tuple[float, int]] = []
    level = spent = used = 0.0
    for key in trace:
        uses[key] = uses[key] + 1 if key in there else 1
        if key not in there:
            spent += cost[key]
            while used + size[key] > most:
                worth, victim = heapq.heappop(heap)
                if there.get(victim) == worth:
                    level = worth
                    used -= size[victim]
                    del there[victim]
            used += size[key]
        there[key] = level + uses[key] * cost[key] / size[key]
        heapq.heappush(heap, (there[key], key))
    return spent


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_near_one_that_has_all_in_order(spread: float) -> None:
    trace, size, cost = requests(), sizes(2, spread), drawn(3)
    most = sum(size.values()) // 4
    ours = seconds(trace, size, cost, lambda key: class_of(cost[key]), most)
    assert ours < 1.1 * gdsf(trace, size, cost, most)
    assert ours < 0.85 * seconds(trace, size, cost, lambda key: 0, most), "than without costs"


@pytest.mark.parametrize("spread", [1.0, 50.0])
def test_costs_that_are_alike_change_nothing(spread: float) -> None:
    trace, size, cost = requests(), sizes(2, spread), alike(3)
    most = sum(size.values()) // 4
    known = seconds(trace, size, cost, lambda key: class_of(0.01), most)
    assert known <= 1.01 * seconds(trace, size, cost, lambda key: 0, most)


def test_costs_that_nobody_knows_count_as_the_others() -> None:
    """Half of the keys are told nothing of: none of the two halves starves the other."""
    trace, size = requests(), sizes(2, 1.0)
    cache = Simulated(make_policy, max_bytes=sum(size.values()) // 4)
    cost = drawn(3)
    for key in trace:
        cache.access(key, size[key], class_of(cost[key]) if key % 2 else 0)
    unknown = sum(cache.index.get(key) is not None for key in range(0, KEYS, 2))
    assert 0.2 < unknown / len(cache.index) < 0.8


@pytest.mark.parametrize("size", [200, 20_000, 100_000])
def test_what_is_dear_stays(size: int) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=60 * size)
    for key in range(600):
        cache.set(key, bytes(size), cost=1.0 if key % 20 == 0 else 0.001)
    dear = sum(key in cache for key in range(0, 600, 20))
    assert dear > 20, "of thirty, beside five hundred seventy that passed through"
    assert is_valid(cache)


def test_with_a_bound_on_entries_size_is_nothing() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(maxsize=100)
    rng = random.Random(4)
    for key in range(3000):
        cache.set(key, bytes(10 if key % 2 else 5000), cost=50 ** rng.random())
    large = sum(key % 2 == 0 for key in cache)
    assert 20 < large < 80
    assert engine_of(cache).policy is not None


def test_a_store_waits_for_few_that_stay() -> None:
    """All in the main part are worth more than the level says: it rises, the faster the longer none goes."""
    cache: VolatileCache[int, bytes] = VolatileCache(maxsize=2000)
    rng = random.Random(5)
    for key in range(6000):
        cache.set(key, bytes(10), cost=50 ** rng.random())
    moved = count_moves(cache)
    most = 0
    for key in range(6000, 8000):
        before = len(moved)
        cache.set(key, bytes(10), cost=5000 * 50 ** rng.random())
        most = max(most, len(moved) - before)
    assert most < 300


def test_what_is_small_and_dear_does_not_go_for_what_is_large_and_cheap() -> None:
    """Large values, each of which takes most of the memory, come and go: all the rest fits beside them."""
    rng, small, large = random.Random(6), 10_000, 600_000
    most, missed = 60 * small + large, 0
    with VolatileCache[int, bytes](max_bytes=most) as cache:
        for step in range(6000):
            if step % 5 == 0:
                key, size, cost = -1 - rng.randrange(6), large - rng.randrange(100_000), 0.002
            elif step % 5 == 1:
                key, size, cost = 1000 + rng.randrange(300), small, 0.0005
            else:
                key, size, cost = rng.randrange(55), small, 0.02
            if cache.get(key) is None:
                missed += 0 <= key < 1000 and step > 1000
                cache.set(key, bytes(size), cost=cost)
    assert missed < 100, "of three thousand requests for the dear ones"
