"""What the kernel took is a miss, exactly that, and its memory is given back."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

import numpy as np
import pytest

import mvolatile as mv
from mvolatile import VolatileCache, _core, testing
from mvolatile.cache import budget, pressure
from mvolatile.cache.engine import engine_of
from support.processes import run_python

from .helpers import in_child, is_valid, purge, seal, told

purges = pytest.mark.skipif(mv.features().can_purge is False, reason="nothing is purged in this tier")
pytestmark = purges


def filled(entries: int = 5000, **options: Any) -> VolatileCache[int, bytes]:
    cache: VolatileCache[int, bytes] = VolatileCache(**options)
    cache.update({i: b"%d." % i * 20 for i in range(entries)})
    seal(cache)
    return cache


def right(cache: VolatileCache[int, bytes], entries: int = 5000) -> int:
    """How many hits; every hit must be true."""
    hits = 0
    for i in range(entries):
        value = cache.get(i)
        if value is not None:
            assert value == b"%d." % i * 20
            hits += 1
    return hits


def test_all_lost() -> None:
    cache = filled()
    assert purge(cache)
    assert right(cache) == 0
    info = cache.cache_info()
    assert (info.currsize, info.purged, info.segments, info.bytes) == (0, 5000, 0, 0)
    assert len(cache) == 0
    assert list(cache) == []
    is_valid(cache)


def test_a_lost_page_loses_only_the_entries_on_it() -> None:
    cache = filled()
    region: Any = next(iter(engine_of(cache).store.regions.values()))
    testing.purge(region.memory, [(8192, 4096)])
    expected = {
        key
        for slot, key in enumerate(region.keys)
        if region.table.bounds(slot)[0] < 12288 and sum(region.table.bounds(slot)) > 8192
    }
    lost = set(range(5000)) - {key for key in range(5000) if key in cache}
    assert lost == expected
    assert right(cache) == 5000 - len(expected)
    info = cache.cache_info()
    assert info.purged == len(expected)
    assert info.currsize == 5000 - len(expected)
    assert region.number not in engine_of(cache).store.regions, (
        "the rest of it was moved, and its pages given back"
    )
    assert right(cache) == 5000 - len(expected)
    is_valid(cache)


def test_a_large_value_with_a_lost_page_gives_back_the_rest() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = np.arange(500_000.0)
    cache["other"] = np.arange(400_000.0)
    region = engine_of(cache).store.regions[engine_of(cache).index["k"] >> 21]
    testing.purge(region.memory, [(100 * 4096, 4096)])
    del region
    assert cache.get("k") is None
    info = cache.cache_info()
    assert info.segments == 1
    assert info.purged == 1
    assert cache["other"][-1] == 399_999.0
    cache["k"] = 1
    assert cache["k"] == 1


def test_a_key_stored_again_after_its_loss() -> None:
    cache = filled()
    purge(cache)
    cache[3] = b"new"
    assert cache[3] == b"new"
    assert right_but(cache, 3) == 0
    assert cache.cache_info().currsize == 1
    is_valid(cache)


def right_but(cache: VolatileCache[int, bytes], key: int) -> int:
    return sum(cache.get(i) is not None for i in range(5000) if i != key)


def test_dead_keys_leave_the_index_though_nobody_asks_for_them() -> None:
    cache = filled(20_000)
    purge(cache)
    engine_of(cache).change(engine_of(cache).reclaimer.survey)
    for i in range(20_000, 24_000):
        cache[i] = b"x"
    assert len(engine_of(cache).index) < 4100


@pytest.mark.skipif(_core.tier() != "userfaultfd", reason="each value is asked about where nothing traps")
def test_a_survey_asks_about_what_has_holes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    cache.update({number: bytes([number]) * 100_000 for number in range(100)})
    engine = engine_of(cache)
    asked: list[int] = []
    for key in (3, 97):
        purge(cache, key)
    inspect = engine.store.inspect
    monkeypatch.setattr(engine.store, "inspect", lambda region: (asked.append(*region.keys), inspect(region)))
    engine.change(engine.reclaimer.survey)
    assert sorted(asked) == [3, 97]
    assert [key for key in range(100) if cache.get(key) is None] == [3, 97]
    assert cache.cache_info().purged == 2
    is_valid(cache)


def test_purging_at_every_chance() -> None:
    with testing.purging(seed=5, rate=0.5):
        cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=200_000)
        for i in range(30_000):
            key = i * 7919 % 5000
            if cache.get(key) is None:
                cache[key] = b"%d." % key * 20
            else:
                assert cache[key] == b"%d." % key * 20
        assert right(cache)
        is_valid(cache)
    assert cache.cache_info().purged


def test_on_lost_is_told_of_each_lost_key_once() -> None:
    lost: list[int] = []
    cache = filled(on_lost=lost.extend)
    purge(cache, 0)
    threads = [threading.Thread(target=right, args=(cache,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    info = cache.cache_info()
    told(cache)
    assert len(lost) == len(set(lost)) == info.purged > 0
    assert not set(lost) & set(cache)


def test_on_lost_may_use_the_cache_and_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def rebuild(keys: list[int]) -> None:
        cache.update({key: b"%d." % key * 20 for key in keys})
        raise LookupError("but then")

    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: failures.append(failure.exc_type))
    cache = filled(on_lost=rebuild)
    purge(cache)
    cache.cache_info()
    told(cache)
    assert right(cache) == 5000
    assert set(failures) == {LookupError}


def test_an_on_lost_that_fails_disturbs_nobody() -> None:
    def child() -> None:
        import threading

        import mvolatile as mv

        def fail(keys: list[int]) -> None:
            raise LookupError("the callback failed")

        cache = mv.VolatileCache(on_lost=fail)
        for i in range(5):
            cache[i] = bytes(70_000)
        cache.purge()
        assert cache.get(1) is None
        cache["n"] = b"1"
        assert cache.cache_info().purged == 5
        for thread in threading.enumerate():
            if thread.name == "mvolatile-notices":
                thread.join()
        assert cache["n"] == b"1"

    done = run_python(child).check()
    assert "the callback failed" in done.stderr
    assert "mvolatile-notices" in done.stderr


def test_a_slow_on_lost_makes_nobody_wait() -> None:
    go_on, lost = threading.Event(), []

    def slow(keys: list[int]) -> None:
        assert go_on.wait(200)
        lost.extend(keys)

    cache = filled(on_lost=slow)
    purge(cache)
    assert right(cache) == 0
    cache[1] = b"new"
    assert cache.cache_info().purged == 5000
    cache.close()
    assert not lost
    go_on.set()
    told(cache)
    assert sorted(lost) == list(range(5000)), "what was lost before is told after closing"
    assert "mvolatile-notices" not in [thread.name for thread in threading.enumerate()]


def test_on_lost_after_a_fork() -> None:
    go_on, lost = threading.Event(), []

    def slow(keys: list[int]) -> None:
        assert go_on.wait(200)
        lost.extend(keys)

    cache = filled(on_lost=slow)
    purge(cache, 0)
    assert cache.get(0) is None

    def child() -> None:
        go_on.set()
        cache.update({-i: b"the child's own" for i in range(1, 1000)})
        seal(cache)
        for region in list(engine_of(cache).store.regions.values())[-1:]:
            region.memory.purge()
        cache.cache_info()
        told(cache)
        assert {*range(-999, 0)} <= set(lost)
        assert 0 not in lost, "what the parent's thread was telling is the parent's to tell"
        assert len(lost) == len(set(lost))

    in_child(child)
    go_on.set()
    told(cache)


def test_pressure_finds_losses_and_lets_open_segments_go() -> None:
    cache = filled()
    cache["late"] = b"x" * 50_000  # type: ignore[index]
    for i in range(10):
        cache["late", i] = bytes(60_000)  # type: ignore[index]
    purge_but_newest(cache)
    pressure.tell_all()
    assert engine_of(cache).store.purged or engine_of(cache).store.dropped
    assert cache.cache_info().purged == 5000


def purge_but_newest(cache: VolatileCache[Any, Any]) -> None:
    for region in list(engine_of(cache).store.regions.values()):
        if not region.is_open and isinstance(region.keys[0], int):
            region.memory.purge()


def test_the_kernels_taking_sets_an_allowance_that_grows_until_it_is_lifted() -> None:
    cache = filled(100_000)
    kept = engine_of(cache).budget
    before = engine_of(cache).store.footprint
    assert kept.allowance is None
    oldest = list(engine_of(cache).store.regions.values())[:3]
    for region in oldest:
        region.memory.purge()
    numbers = count(100_000)
    while kept.allowance is None:
        store(cache, next(numbers))
    assert 0.95 * before < kept.allowance < before
    allowed = kept.allowance
    for _ in range(200_000):
        store(cache, next(numbers))
        if kept.allowance is None:
            break
        assert engine_of(cache).store.nbytes <= max(kept.limit, 0) + 400_000
        assert kept.allowance >= allowed
        allowed = kept.allowance
    assert kept.allowance is None
    assert allowed > 1.1 * before
    is_valid(cache)


def test_clear_forgets_a_loss_that_nobody_has_acted_on() -> None:
    """The allowance would be that of an empty cache."""
    cache = filled(100_000)
    regions = list(engine_of(cache).store.regions.values())
    regions[1].memory.purge()
    assert cache.get(regions[1].keys[0]) is None  # type: ignore[call-overload]
    cache.clear()
    for number in range(100_000, 120_000):
        store(cache, number)
    assert engine_of(cache).budget.allowance is None


@pytest.mark.parametrize("size", [pytest.param(0, marks=pytest.mark.slow), 16])
def test_where_room_grows_short_entries_are_given_up_before_the_kernel_takes_values(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache()
    spare = [1 << 30]
    monkeypatch.setattr(budget, "room", lambda: spare[0])
    for number in range(60_000):
        cache[number] = bytes(size)
    assert len(cache) == 60_000
    spare[0] = 1 << 20
    for number in range(60_000, 90_000):
        cache[number] = bytes(size)
    held = len(cache)
    assert held < 80_000
    for number in range(90_000, 150_000):
        cache[number] = bytes(size)
    assert 0.9 * held < len(cache) < 1.1 * held, "no less while the room does not shrink"
    spare[0] = 1000
    for number in range(150_000, 200_000):
        cache[number] = bytes(size)
    assert len(cache) < 0.97 * held
    spare[0] = 1 << 30
    for number in range(200_000, 2_000_000):
        cache[number] = bytes(size)
        if len(cache) > 1.2 * held:
            break
    assert len(cache) > 1.2 * held, "it grows again"
    assert cache.cache_info().purged == 0
    is_valid(cache)


def store(cache: VolatileCache[int, bytes], number: int) -> None:
    cache[number] = b"%d." % number * 20


def test_what_was_held_before_is_allowed_again_however_much_the_kernel_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pressure, "listen", lambda cache: None)  # the machine's would be looked at half way
    cache = filled(100_000)
    before = engine_of(cache).store.footprint
    purge(cache)
    cache.cache_info()
    assert engine_of(cache).store.footprint < 0.1 * before
    assert engine_of(cache).budget.allowance is not None
    assert 0.95 * before < (engine_of(cache).budget.allowance or 0) < before


def test_a_loss_that_a_reader_meets_sets_an_allowance_too() -> None:
    cache = filled(100_000)
    regions = list(engine_of(cache).store.regions.values())
    regions[1].memory.purge()  # not the oldest, where a filled segment looks
    assert cache.get(regions[1].keys[0]) is None  # type: ignore[call-overload]
    for number in range(100_000, 104_000):
        store(cache, number)
    assert engine_of(cache).budget.allowance is not None


def test_the_interpreter_ends_with_a_cache_that_is_listening() -> None:
    def child() -> None:
        import mvolatile as mv
        from mvolatile.cache import engine as inside

        cache: Any = mv.VolatileCache()
        globals()["cache"] = cache
        cache["k"] = b"x"
        cache["self"] = memoryview(bytes(100_000))
        kept = cache["self"]
        engine = inside.engine_of(cache)
        engine.change(engine.store.seal_all)
        engine.change(lambda: None)
        cache.circle = [cache, kept]
        assert engine.listening

    run_python(child).check()
