"""What a value costs: as measured or told, and what of it hits save and losses cost."""

from __future__ import annotations

import asyncio
import math
import threading
import tracemalloc

import pytest

import mvolatile.cache.singleflight as singleflight
from mvolatile import VolatileCache, volatile_cache
from mvolatile._core import Sketch
from mvolatile.cache.cost import SECONDS, UNKNOWN, Costs, checked_cost, class_of
from mvolatile.cache.engine import engine_of

from .helpers import is_valid

ROUGHLY = 0.05


class Clock:
    """Of the makers: stands still but for what they say that they take."""

    now = 0.0

    def takes(self, seconds: float, value: object = b"made") -> object:
        self.now += seconds
        return value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(singleflight, "perf_counter", lambda: clock.now)
    return clock


def cost_of(cache: VolatileCache[object, object], key: object) -> float:
    entry = engine_of(cache).reading.look(key)
    assert entry is not None
    return SECONDS[entry.region.cost(entry.slot)]


def about(seconds: float) -> object:
    return pytest.approx(seconds, rel=ROUGHLY)


# ---- classes


def test_classes_are_right_to_a_twentieth() -> None:
    for step in range(2000):
        seconds = 1e-6 * 1.011**step
        if seconds < SECONDS[-1]:
            assert SECONDS[class_of(seconds)] == about(seconds)
    assert class_of(0) == class_of(1e-9) == 1
    assert class_of(1e9) == class_of(math.inf) == 255


def test_what_is_told_is_checked() -> None:
    assert checked_cost(None) == UNKNOWN
    assert checked_cost(0) == 1
    assert checked_cost(10**400) == checked_cost(math.inf) == 255
    cache: VolatileCache[str, bytes] = VolatileCache()
    for cost, error in (("1", TypeError), (object(), TypeError), (-1, ValueError), (math.nan, ValueError)):
        for store in (cache.set, cache.add):
            with pytest.raises(error, match="cost"):
                store("a", b"value", cost=cost)  # type: ignore[arg-type]
        with pytest.raises(error, match="cost"):
            cache.set_many({"a": b"value"}, cost=cost)  # type: ignore[arg-type]
    assert "a" not in cache


def test_noise_is_kept_out_and_what_is_less_believed_sooner() -> None:
    costs, usual, high = Costs(), class_of(0.01), class_of(1.0)
    assert costs.smoothed(7, usual, 10) == usual
    assert SECONDS[costs.smoothed(7, high, 10)] < 0.04, "one that took a hundred times as long"
    for _ in range(12):
        known = costs.smoothed(7, usual, 10)
    assert known == usual
    for _ in range(30):
        known = costs.smoothed(7, high, 10)
    assert abs(known - high) <= 3, "it takes longer from now on"
    assert costs.smoothed(8, high, 10) == high, "another key"


# ---- measured


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_maker_is_timed(clock: Clock, size: int) -> None:
    cache: VolatileCache[object, object] = VolatileCache()
    cache.get_or_set("a", lambda: clock.takes(0.5, bytes(size)))
    assert cost_of(cache, "a") == about(0.5)
    info = cache.cache_info()
    assert (info.spent_seconds, info.saved_seconds, info.lost_seconds) == (about(0.5), 0, 0)
    for _ in range(3):
        cache["a"]
    assert cache.cache_info().saved_seconds == about(1.5)
    cache.purge()
    engine_of(cache).store.seal_all()
    cache.purge()
    assert "a" not in cache
    assert cache.cache_info().lost_seconds == about(0.5)
    cache.clear()
    info = cache.cache_info()
    assert (info.spent_seconds, info.saved_seconds, info.lost_seconds) == (0, 0, 0)


def test_coroutines_and_decorated_functions(clock: Clock) -> None:
    @volatile_cache
    def plain(n: int) -> object:
        return clock.takes(n)

    @volatile_cache
    async def task(n: int) -> object:
        await asyncio.sleep(0)
        return clock.takes(n)

    for _ in range(2):
        plain(2)
        asyncio.run(task(3))
    assert plain.cache_info().saved_seconds == about(2)
    assert task.cache_info().saved_seconds == about(3)


def test_a_maker_bears_not_what_others_cost_that_are_there(clock: Clock) -> None:
    cache: VolatileCache[object, object] = VolatileCache()

    def outer() -> object:
        cache.get_or_set("inner", lambda: clock.takes(10))
        cache.get_or_set("nobody keeps it", lambda: clock.takes(4), condition=lambda value: False)
        return clock.takes(1)

    cache.get_or_set("outer", outer)
    assert cost_of(cache, "inner") == about(10)
    assert cost_of(cache, "outer") == about(5), "its own second, and what it will have to make again"


def test_nor_waiting_for_anothers_making(clock: Clock) -> None:
    cache: VolatileCache[object, object] = VolatileCache()
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> object:
        begun.set()
        assert go_on.wait(60)
        return clock.takes(100)

    def outer() -> object:
        begun.wait(60)
        threading.Thread(target=until_somebody_waits).start()
        cache.get_or_set("slow", lambda: clock.takes(0))
        return clock.takes(1)

    def until_somebody_waits() -> None:
        while not engine_of(cache).calls["slow"].waiters:
            pass
        go_on.set()

    maker = threading.Thread(target=cache.get_or_set, args=("slow", slow))
    maker.start()
    cache.get_or_set("outer", outer)
    maker.join()
    assert cost_of(cache, "outer") == about(1)
    assert cost_of(cache, "slow") == about(100)


def test_a_clock_that_goes_backward_costs_nothing(clock: Clock) -> None:
    cache: VolatileCache[object, object] = VolatileCache()
    cache.get_or_set("a", lambda: clock.takes(-5))
    assert cost_of(cache, "a") <= 1e-6
    assert cache.cache_info().spent_seconds == 0


def test_a_default_took_nobody_anything() -> None:
    cache: VolatileCache[object, object] = VolatileCache()
    cache.setdefault("a", b"default")
    assert cost_of(cache, "a") == 0


# ---- told


@pytest.mark.parametrize("value", [b"small", bytes(100_000), {"an": "object"}])
def test_set_add_and_set_many_are_told(value: object) -> None:
    cache: VolatileCache[object, object] = VolatileCache()
    cache.set("set", value, cost=2)
    assert cache.add("add", value, cost=3, ttl=1000)
    assert not cache.add("add", value, cost=30)
    cache.set_many([("one", value), ("other", value)], cost=4)
    assert [cost_of(cache, key) for key in ("set", "add", "one", "other")] == [about(n) for n in (2, 3, 4, 4)]
    cache["plain"] = value
    assert cost_of(cache, "plain") == 0
    assert cache.get("set") == value
    assert cache.cache_info().saved_seconds == about(2)
    assert cache.cache_info().spent_seconds == 0, "nobody was measured"
    assert is_valid(cache)


def test_what_moves_keeps_its_cost() -> None:
    cache: VolatileCache[object, object] = VolatileCache(maxsize=20)
    cache.set("kept", b"value", cost=7)
    for key in range(60):
        cache.set(key, bytes(1000), cost=7)
        cache["kept"]
    assert cost_of(cache, "kept") == about(7)
    cache.touch("kept", 1000)
    assert cost_of(cache, "kept") == about(7)
    cache.set("count", 1, cost=5)
    cache.incr("count")
    assert cost_of(cache, "count") == about(5)


def test_what_is_known_of_an_entry_takes_seven_bytes() -> None:
    """And one beside its value: with what the policy counts, eight more than an entry took before."""
    entries = 200_000
    tracemalloc.start()
    try:
        sketch, costs = Sketch(entries), Costs()
        costs.smoothed(1, 9, entries)
        for at_least in range(entries // 8, entries + 1, entries // 8):
            costs.smoothed(at_least, 9, at_least)
        assert sketch.entries == entries
        assert tracemalloc.get_traced_memory()[0] <= 7 * entries + 20_000
    finally:
        tracemalloc.stop()
