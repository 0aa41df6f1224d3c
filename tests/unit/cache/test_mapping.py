"""A cache is a mapping: what a dict does, it does, but for what the kernel took."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mvolatile as mv
from mvolatile import VolatileCache, _core
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, purge, purge_some, seal

KEYS = st.one_of(st.integers(0, 8), st.sampled_from(["a", ("b", 1), None, frozenset([2])]))
VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=10),
    st.integers(),
    st.none(),
    st.lists(st.floats(allow_nan=False)),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("large"), KEYS, st.integers(70_000, 150_000)),
        st.tuples(st.just("delete"), KEYS, st.none()),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.just("seal"), st.none(), st.none()),
        st.tuples(st.just("clear"), st.none(), st.none()),
        st.tuples(st.just("finish"), st.none(), st.none()),
        st.tuples(st.just("purge"), st.none(), st.integers()),
    ),
    max_size=60,
)


@given(OPERATIONS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_it_does_what_a_dict_does(operations: list[Any], losing: bool) -> None:
    model: dict[Any, Any] = {}
    with VolatileCache() as cache:
        for operation, key, value in operations:
            if operation == "set":
                cache[key] = model[key] = value
            elif operation == "large":
                cache[key] = model[key] = bytes([value % 251]) * value
            elif operation == "delete":
                if key in cache:
                    del cache[key]
                model.pop(key, None)
            elif operation == "pop":
                assert cache.pop(key, "gone") in (model.pop(key, "gone"), "gone")
            elif operation == "seal":
                seal(cache)
            elif operation == "clear":
                cache.clear()
                model.clear()
            elif operation == "finish":
                engine_of(cache).change(engine_of(cache).reclaimer.finish)
            elif losing:
                purge_some(cache, Random(value))
            is_valid(cache)
        found = dict(cache.items())
        assert found.items() <= {**model}.items() if losing else found == model
        assert len(cache) == len(found)
        is_valid(cache)


def test_popitem_until_nothing_is_left() -> None:
    """Quadratic, this would take hours."""
    cache: VolatileCache[int, int] = VolatileCache()
    model = {i: i * i for i in range(60_000)}
    cache.update(model)
    seal(cache)
    assert dict(cache.popitem() for _ in range(60_000)) == model
    assert len(cache) == 0
    cache[1] = 1
    purge(cache)
    if mv.features().can_purge:
        with pytest.raises(KeyError, match="empty"):
            cache.popitem()
    is_valid(cache)


def test_a_value_that_goes_while_items_are_read_is_left_out() -> None:
    now = [0.0]

    def timer() -> float:
        now[0] += 1
        return now[0]

    for read in (lambda c: list(c.items()), lambda c: list(c.values()), lambda c: 5 in c.values(), copied):
        now[0] = 0
        cache: VolatileCache[str, int] = VolatileCache(timer=timer)
        cache.set("a", 1, ttl=0.5)
        assert not read(cache)
    cache = VolatileCache()
    cache.update(a=1, b=2)
    assert 2 in cache.values()
    assert ("b", 2) in cache.items()
    assert ("b", 3) not in cache.items()


def copied(cache: VolatileCache[str, int]) -> VolatileCache[str, int]:
    other: VolatileCache[str, int] = VolatileCache()
    other.update(cache)
    return other


@pytest.mark.parametrize("size", [100, 64 << 20])
def test_in_neither_marks_nor_copies(size: int) -> None:
    cache: VolatileCache[str, bytes] = VolatileCache()
    cache["k"] = bytes(size)
    seal(cache)
    region = engine_of(cache).store.regions[engine_of(cache).index["k"] >> 21]
    tracemalloc.start()
    assert "k" in cache
    assert list(cache) == ["k"]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert not region.visits(0)
    assert cache.cache_info()[:2] == (0, 0)
    assert _core.pins(region.memory) == 0
    if mv.features().can_purge:
        region.memory.purge()
        assert "k" not in cache
        assert cache.cache_info().purged == 1


def test_iterating_while_changing() -> None:
    cache: VolatileCache[int, int] = VolatileCache()
    cache.update({i: i for i in range(10)})
    seen = []
    for key in cache:
        seen.append(key)
        cache[key + 100] = 1
        cache.pop(key + 1, None)
    assert seen == [0, 2, 4, 6, 8]


def test_statistics_begin_with_those_of_lru_cache() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(name="counted")
    cache["a"] = b"x" * 1000
    assert cache["a"]
    cache.get("b")
    info = cache.cache_info()
    assert info[:4] == (1, 1, None, 1)
    assert info.bytes == 1000
    assert info.segments == 1
    assert info.pinned_bytes >= 1000
    assert info.purged == 0
    seal(cache)
    assert cache.cache_info().pinned_bytes == 0
    cache.clear()
    assert cache.cache_info()[:4] == (0, 0, None, 0)
    assert cache.cache_info().resident_bytes == 0


def test_closing() -> None:
    cache: VolatileCache[str, int] = VolatileCache(name="done")
    cache["a"] = 1
    cache.close()
    cache.close()
    assert cache.get("a") is None
    assert repr(cache) == "<VolatileCache 'done': closed>"
    with pytest.raises(ValueError, match="nothing can be stored"):
        cache["a"] = 1


def test_an_overwritten_value_never_comes_back() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    for round_ in range(20):
        for key in range(2000):
            cache[key] = b"%d:%d" % (key, round_)
        for key in range(2000):
            assert cache.get(key) in (b"%d:%d" % (key, round_), None)
    info = cache.cache_info()
    assert info.currsize == 2000
    assert info.bytes < 6 * sum(len(value) for value in cache.values()), "dead values are not kept for long"
    purge(cache)
    assert dict(cache) == {} or not cache.cache_info().purged
