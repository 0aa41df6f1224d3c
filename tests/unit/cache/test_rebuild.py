"""Rebuild pressure: what counts as making again, and the arithmetic of its averages."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of
from mvolatile.cache.rebuild import WINDOWS, Rebuilds
from support.processes import run_python


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lose(cache: VolatileCache[Any, Any]) -> None:
    engine = engine_of(cache)
    engine.change(engine.store.seal_all)
    cache.purge()
    cache.cache_info()


@given(st.lists(st.tuples(st.floats(0.1, 50), st.booleans()), min_size=1, max_size=30))
def test_averages_forget_as_psi_does(phases: list[tuple[float, bool]]) -> None:
    """Exactly, where each phase is a period of its own or longer; the total is that of the phases with a rebuild."""
    clock, total, expected = Clock(), 0.0, [0.0] * 3
    rebuilds = Rebuilds(clock)
    for seconds, busy in phases:
        seconds += 2
        if busy:
            rebuilds.lost(7)
            assert rebuilds.begin(7)
        clock.now += seconds
        if busy:
            rebuilds.end()
            total += seconds
        rebuilds.pressure()
        expected = [
            busy + (before - busy) * math.exp(-seconds / window)
            for before, window in zip(expected, WINDOWS, strict=True)
        ]
    *averages, told = rebuilds.pressure()
    assert told == pytest.approx(total)
    assert averages == pytest.approx(expected)


def test_what_is_asked_in_the_middle_changes_nothing() -> None:
    clock = Clock()
    asked, left = Rebuilds(clock), Rebuilds(clock)
    for one in (asked, left):
        one.lost(1)
        assert one.begin(1)
    for _ in range(30):
        clock.now += 0.5
        asked.pressure()
    assert asked.pressure().total == left.pressure().total == 15
    assert asked.pressure().avg10 == pytest.approx(left.pressure().avg10)
    assert left.pressure().avg10 == pytest.approx(1 - math.exp(-1.5))


def test_two_at_once_count_once() -> None:
    clock = Clock()
    rebuilds = Rebuilds(clock)
    for key in (1, 2):
        rebuilds.lost(key)
    assert rebuilds.begin(1)
    clock.now += 4
    assert rebuilds.begin(2)
    clock.now += 2
    rebuilds.end()
    clock.now += 3
    rebuilds.end()
    clock.now += 100
    assert rebuilds.pressure().total == 9


def test_only_what_was_lost_and_once() -> None:
    rebuilds = Rebuilds()
    assert not rebuilds.begin(5)
    rebuilds.lost(5)
    assert not rebuilds.begin(6)
    assert rebuilds.begin(5)
    rebuilds.end()
    assert not rebuilds.begin(5)


@pytest.mark.parametrize("keys", [1000, 30_000])
def test_most_of_many_are_remembered(keys: int) -> None:
    """Lost again and again, as in a cache that thrashes: the table grows until it is large enough."""
    rebuilds, seen = Rebuilds(), 0
    for turn in range(12):
        for key in range(keys):
            rebuilds.lost(hash(str(key)))
        seen = 0
        for key in range(keys):
            if rebuilds.begin(hash(str(key))):
                rebuilds.end()
                seen += 1
        assert seen > keys / 2 or turn < 6
    assert seen > 0.75 * keys
    assert not sum(rebuilds.begin(hash(f"other {key}")) for key in range(keys)) > keys / 1000


@pytest.mark.parametrize(
    ("bound", "rebuilt"), [({}, True), ({"max_bytes": 1 << 20}, False), ({"maxsize": 9}, False)]
)
def test_what_was_evicted_for_the_kernels_sake(bound: dict[str, Any], rebuilt: bool) -> None:
    with VolatileCache[str, bytes](**bound) as cache:
        cache["k"] = b"x" * 100
        engine = engine_of(cache)
        engine.change(engine.store.evict, "k")
        cache.get_or_set("k", lambda: b"y")
        assert (engine.store.rebuilds.pressure().total > 0) == rebuilt


def test_the_first_making_is_none_and_the_second_is() -> None:
    clock = Clock()
    with VolatileCache[str, bytes](name="rebuilt") as cache:
        engine_of(cache).store.rebuilds.clock = clock

        def make() -> bytes:
            clock.now += 3
            return b"x" * 100

        cache.get_or_set("k", make)
        assert engine_of(cache).store.rebuilds.pressure().total == 0
        lose(cache)
        assert cache.cache_info().purged == 1
        cache.get_or_set("k", make)
        assert engine_of(cache).store.rebuilds.pressure().total == 3
        del cache["k"]
        cache.get_or_set("k", make)
        assert engine_of(cache).store.rebuilds.pressure().total == 3


def test_a_maker_that_raises_has_ended() -> None:
    clock = Clock()
    with VolatileCache[str, bytes]() as cache:
        rebuilds = engine_of(cache).store.rebuilds
        rebuilds.clock = clock
        cache["k"] = b"x" * 100
        lose(cache)

        def fail() -> bytes:
            clock.now += 1
            raise OSError

        with pytest.raises(OSError):
            cache.get_or_set("k", fail)
        clock.now += 50
        assert rebuilds.pressure().total == 1


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_the_age_of_what_is_lost(size: int) -> None:
    with VolatileCache[int, bytes]() as cache:
        for key in range(3):
            cache[key] = bytes(size)
        store = engine_of(cache).store
        for region in store.regions.values():
            region.since -= 100
        lose(cache)
        assert cache.cache_info().purged == 3
        assert store.ages.counts == [0, 0, 0, 3, 0, 0, 0, 0]
        assert 300 < store.ages.sum < 600


def test_counts_of_departures() -> None:
    now = [0.0]
    with VolatileCache[int, bytes](maxsize=3, timer=lambda: now[0]) as cache:
        for key in range(5):
            cache.set(key, b"x" * 50)
        assert cache.cache_info().evicted == 2
        assert cache.cache_info().stores == 5
        cache.set(9, b"y", ttl=5)
        now[0] = 10
        assert 9 not in cache
        info = cache.cache_info()
        assert (info.expired, info.stores) == (1, 6)
        cache.clear()
        info = cache.cache_info()
        assert (info.expired, info.evicted, info.stores) == (0, 0, 0)


def test_a_forked_child_begins_with_nothing_under_way() -> None:
    """Not waiting for a thread of the parent, which was in the middle of a rebuild."""

    def child() -> None:
        import os
        import threading

        from mvolatile import VolatileCache
        from mvolatile.cache.engine import engine_of

        cache: VolatileCache[Any, bytes] = VolatileCache(inherit=False)
        engine = engine_of(cache)
        for key in (1, 2):
            cache[key] = b"x" * 100
        engine.change(engine.store.seal_all)
        cache.purge()
        assert cache.cache_info().purged == 2
        began, over = threading.Event(), threading.Event()

        def slow() -> bytes:
            began.set()
            over.wait()
            return b"y"

        thread = threading.Thread(target=cache.get_or_set, args=(1, slow))
        thread.start()
        began.wait()
        pid = os.fork()
        if not pid:
            cache.get_or_set(3, lambda: b"z")
            os._exit(engine.store.rebuilds.pressure().total != 0)
        assert os.waitpid(pid, 0)[1] == 0
        over.set()
        thread.join()
        assert engine.store.rebuilds.pressure().total > 0

    run_python(child).check()
