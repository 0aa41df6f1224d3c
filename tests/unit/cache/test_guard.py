"""The guard against thrash: it closes where storing does not pay, and opens again."""

from __future__ import annotations

import random

import pytest

import mvolatile.cache.storing as storing
from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of
from mvolatile.cache.guard import LEAST, OFTENEST, Guard

from .helpers import is_valid

ENTRIES = 100
MAKING, STORING = 0.0002, 0.00008


class Program:
    """Asks a cache of `room` values, which forgets the oldest, under a guard; it counts seconds, and none pass."""

    def __init__(self, room: int, making: float = MAKING) -> None:
        self.saved, self.hits, self.misses = 0.0, 0, 0
        self.guard = Guard(self)
        self.room, self.making = room, making
        self.there: dict[int, None] = {}
        self.asked: dict[int, int] = {}
        self.seconds = 0.0

    def counts(self) -> tuple[int, int]:
        return self.hits, self.misses

    def get(self, key: int) -> None:
        if key in self.there:
            self.hits += 1
            self.saved += self.making
            return
        self.misses += 1
        self.seconds += self.making
        self.asked[key] = min(OFTENEST, self.asked.get(key, 0) + 1)
        if self.guard.share < 1 and not self.guard.admits(hash(key), self.asked[key], self.room):
            return
        tight = len(self.there) >= self.room
        if tight:
            del self.there[next(iter(self.there))]
        self.there[key] = None
        self.seconds += STORING
        self.guard.stored(STORING, tight, self.room)


def uniform(program: Program, keys: range, requests: int) -> float:
    """The seconds, as a part of what they are without a cache."""
    rng, before = random.Random(7), program.seconds
    for _ in range(requests):
        program.asked.clear() if rng.random() < 0.0005 else None
        program.get(rng.choice(keys))
    return (program.seconds - before) / (requests * program.making)


def test_it_closes_where_storing_does_not_pay() -> None:
    program = Program(ENTRIES)
    assert uniform(program, range(20 * ENTRIES), 20_000) < 1.02
    assert program.guard.share < 0.5
    assert program.hits > 0.02 * 20_000, "what fits is kept all the same"


def test_and_opens_when_the_working_set_fits() -> None:
    program = Program(ENTRIES)
    uniform(program, range(50 * ENTRIES), 20_000)
    assert program.guard.share <= 1 / 8
    for many in (1, 2, 3):
        first = 100_000 * many
        assert uniform(program, range(first, first + ENTRIES // 2), 5000) < 0.5, "those asked for often enter"
        uniform(program, range(first, first + 3 * ENTRIES), 20_000)
        assert program.guard.share >= 1 / 8, "it pays by then"


def test_one_that_pays_stays_open() -> None:
    program = Program(ENTRIES, making=0.005)
    uniform(program, range(5 * ENTRIES), 20_000)
    assert program.guard.share == 1


def test_a_share_is_always_open() -> None:
    program = Program(ENTRIES)
    for key in range(100_000):
        program.get(key)
        program.hits += 1  # that save nothing
    assert program.guard.share == LEAST
    assert any(program.guard.admits(hash(key), 0, ENTRIES) for key in range(1000))
    assert program.guard.admits(hash(5), OFTENEST, ENTRIES), "and to what is asked for often"


def test_filling_is_no_thrash() -> None:
    program = Program(10_000)
    for key in range(10_000):
        program.get(key)
    assert program.guard.share == 1


def test_where_nothing_is_asked_for_again_all_is_stored() -> None:
    program = Program(ENTRIES)
    for key in range(10_000):
        program.get(key)
    assert program.guard.share == 1


def test_a_thread_that_waited_for_its_turn_tells_nothing() -> None:
    program = Program(ENTRIES, making=0.01)
    for step in range(2000):
        program.saved, program.hits = program.saved + 0.0005, program.hits + 1
        program.guard.stored(1.0 if step % 100 == 99 else STORING, True, ENTRIES)
    assert program.guard.share == 1


# ---- in a cache


class Clock:
    """Stores take a second, in which nothing passes."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.fixture
def slow_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "perf_counter", Clock())


@pytest.mark.usefixtures("slow_stores")
@pytest.mark.parametrize("size", [500, 100_000])
def test_what_is_made_is_not_stored_in_thrash(size: int) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=40 * size)
    value = bytes(size)
    for key in range(3000):
        assert cache.get_or_set(key, lambda: value) == value
        assert cache.get_or_set(key, lambda: value) == value
    assert engine_of(cache).guard.share == LEAST
    stored = sum(
        cache.get_or_set(key, lambda: value) is not None and key in cache for key in range(5000, 6000)
    )
    assert stored < 100
    assert is_valid(cache)


@pytest.mark.usefixtures("slow_stores")
def test_what_is_there_stays_and_what_is_made_is_given() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=100_000)
    engine = engine_of(cache)
    for key in range(1, 50):
        cache[key] = b"old"
    engine.guard.share = 1e-9
    engine.change(int)
    for key in range(1, 50):
        assert cache.get_or_set(1000 + key, lambda: b"made") == b"made"
        assert cache.get_or_set(key, lambda: b"new") == b"old"
    assert not any(1000 + key in cache for key in range(1, 50))


@pytest.mark.usefixtures("slow_stores")
def test_within_a_bound_of_its_own_a_program_has_what_it_set() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(maxsize=100)
    for key in range(3000):
        cache.set(key, b"value", cost=1e-6)
        assert key in cache
    assert engine_of(cache).guard.share == 1


@pytest.mark.usefixtures("slow_stores")
def test_without_a_bound_it_may_be_refused_and_the_old_value_goes() -> None:
    cache: VolatileCache[object, bytes] = VolatileCache()
    engine = engine_of(cache)
    cache["a"] = bytes(100_000)
    engine.guard.share = 1e-9
    for key in range(1, 100):
        cache.set(key, bytes(100_000), cost=1e-6)
    cache.set("a", bytes(100_001), cost=1e-6)
    assert "a" not in cache
    assert len(cache) == 0
    cache[5] = b"nobody told what it costs"
    assert 5 in cache
    assert is_valid(cache)
