from __future__ import annotations

import itertools
from collections import Counter, OrderedDict

import pytest

from mvolatile.demo.imagery import cut_levels
from mvolatile.demo.walk import stream

LEVELS = cut_levels({"large": (10800, 5400), "small": (5400, 2700)})
TILES = sum(level.tiles for level in LEVELS)
REQUESTS = 20_000


@pytest.fixture(scope="module")
def keys() -> list[int]:
    return list(stream(LEVELS, REQUESTS, seed=1))


def lru_hit_rate(keys: list[int], size: int) -> float:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        hits += key in kept
        kept[key] = None
        kept.move_to_end(key)
        if len(kept) > size:
            kept.popitem(last=False)
    return hits / len(keys)


def test_a_seed_is_a_stream(keys: list[int]) -> None:
    assert list(stream(LEVELS, REQUESTS, seed=1)) == keys
    assert list(stream(LEVELS, REQUESTS, seed=2)) != keys


def test_a_longer_stream_begins_as_the_shorter(keys: list[int]) -> None:
    assert list(stream(LEVELS, 100, seed=1)) == keys[:100]


def test_every_key_is_a_tile(keys: list[int]) -> None:
    assert len(keys) == REQUESTS
    assert set(keys) <= set(range(TILES))


def test_the_stream_is_skewed(keys: list[int]) -> None:
    counts = Counter(keys)
    popular = sum(count for _, count in counts.most_common(TILES // 5))
    assert popular / REQUESTS > 0.4
    assert len(counts) > TILES // 2


def test_the_stream_is_a_walk(keys: list[int]) -> None:
    """One viewer's successive requests are neighbouring tiles; a skewed draw would not make them so."""
    alone = list(stream(LEVELS, REQUESTS, seed=1, viewers=1))
    deepest = LEVELS[3]
    near = total = 0
    for before, after in itertools.pairwise(alone):
        if min(before, after) < deepest.first or max(before, after) >= deepest.first + deepest.tiles:
            continue
        row, column = divmod(before - deepest.first, deepest.columns)
        next_row, next_column = divmod(after - deepest.first, deepest.columns)
        across = abs(column - next_column)
        near += abs(row - next_row) <= 4 and min(across, deepest.columns - across) <= 5
        total += 1
    assert total > 1000
    assert near / total > 0.9


def test_a_larger_cache_helps_all_the_way(keys: list[int]) -> None:
    """Otherwise the guess of a cap would not matter, and the demo would show nothing."""
    rates = [lru_hit_rate(keys, TILES * share // 8) for share in (1, 2, 4, 8)]
    assert rates == sorted(rates)
    assert rates[-1] - rates[0] > 0.4
