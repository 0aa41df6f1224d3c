"""W-TinyLFU decides in C and asks regions, keys and its cache, which may run anything. Nothing breaks it."""

from __future__ import annotations

import copy
import gc
import itertools
import random
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import mvolatile.cache.eviction.simulated as simulated
from mvolatile import VolatileCache
from mvolatile._core import OneValue, TinyLFU
from mvolatile.cache.eviction import make_policy
from mvolatile.cache.eviction.miniature import CHOICES
from mvolatile.cache.eviction.policy import FRESH, KEPT, Figures, Region, Stay
from mvolatile.cache.eviction.simulated import Simulated, SimulatedRegion
from mvolatile.cache.eviction.tinylfu import WindowTinyLFU

OnAsked = Callable[[], object]


class Asked:
    """What is called each time that the policy asks for something."""

    def __init__(self) -> None:
        self.is_inside = False
        self.then: OnAsked = lambda: None
        self.count = 0

    def __call__(self) -> None:
        if self.is_inside:
            self.count += 1
            self.then()

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.is_inside = True
        try:
            yield
        finally:
            self.is_inside = False


asked = Asked()


class Watched(WindowTinyLFU):
    """A subclass, as somebody might have one."""

    def stored(self, key: Hashable, nbytes: int, cost: int, /) -> int:
        with asked.inside():
            return super().stored(key, nbytes, cost)

    def sealed(self, region: Region, /) -> None:
        with asked.inside():
            super().sealed(region)

    def left(self, region: Region, /) -> None:
        with asked.inside():
            super().left(region)

    def evict(self) -> Region | None:
        with asked.inside():
            region: Region | None = super().evict()
            return region

    def visited(self, region: Region, slot: int, /) -> Stay | None:
        with asked.inside():
            stay: Stay | None = super().visited(region, slot)
            return stay


class AskedRegion(SimulatedRegion):
    def __getattribute__(self, name: str) -> Any:
        asked()
        return super().__getattribute__(name)


class AskedCache(Simulated):
    def __getattribute__(self, name: str) -> Any:
        asked()
        return super().__getattribute__(name)


def mend(cache: Simulated) -> None:
    """As a reclaimer does after a change that was cut short."""
    policy, known = cache.policy, set()
    for region in list(policy.order()):
        if region.number in known or region.number not in cache.regions:
            policy.left(region)
        known.add(region.number)
    for number, region in cache.regions.items():
        if number not in known and not region.is_open:
            policy.sealed(region)
    policy.mended()


def in_order(cache: Simulated) -> list[int]:
    return [region.number for region in cache.policy.order()]


def access_some(cache: Simulated, rng: random.Random, requests: int) -> None:
    for _ in range(requests):
        key = int(rng.paretovariate(0.6)) % 400
        cache.access(key, 1 + key % 7, (key * 37) % 256 if key % 3 else 0)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    """One that is full, in segments of a few values."""
    monkeypatch.setattr(simulated, "SimulatedRegion", AskedRegion)
    monkeypatch.setattr(asked, "then", lambda: None)
    cache = AskedCache(Watched, max_bytes=200, segment=12)
    access_some(cache, random.Random(1), 1000)
    assert cache.policy.evict() is not None
    yield cache
    asked.then = lambda: None


def test_an_interrupt_in_any_answer(cache: Simulated) -> None:
    rng = random.Random(2)
    for after in itertools.chain(range(60), range(60, 1500, 7)):
        countdown = itertools.count(after, -1)

        def interrupt(countdown: Iterator[int] = countdown) -> None:
            if next(countdown) == 0:
                raise KeyboardInterrupt

        asked.then = interrupt
        with suppress(KeyboardInterrupt):
            access_some(cache, rng, 10)
        asked.then = lambda: None
        mend(cache)
        ordered = in_order(cache)
        sealed = [number for number, region in cache.regions.items() if not region.is_open]
        assert sorted(ordered) == sorted(sealed)
        access_some(cache, rng, 5)
    access_some(cache, rng, 1000)
    assert cache.nbytes <= 200


def test_who_is_asked_may_change_the_order(cache: Simulated) -> None:
    """Against the contract: a finalizer or a key's __eq__ comes at any time. The order may suffer, and no more."""
    rng, turn, policy = random.Random(3), itertools.count(), cache.policy
    assert isinstance(policy, WindowTinyLFU)

    def change() -> None:
        if next(turn) % 5 or not asked.is_inside:
            return
        asked.is_inside = False
        regions = list(cache.regions.values())
        region = regions[rng.randrange(len(regions))]
        rng.choice([WindowTinyLFU.left, WindowTinyLFU.sealed])(policy, region)
        WindowTinyLFU.stored(policy, rng.randrange(1000), 1, 0)
        if rng.random() < 0.01:
            for each in regions:
                WindowTinyLFU.left(policy, each)
        asked.is_inside = True

    asked.then = change
    for _ in range(200):
        with suppress(KeyError, IndexError):  # of what was evicted twice
            access_some(cache, rng, 5)
        mend(cache)
        assert len(set(in_order(cache))) == len(in_order(cache))


def test_an_order_that_changed_is_not_gone_through(cache: Simulated) -> None:
    window, main = cache.policy.queues()
    first, second = iter(main), iter(main)
    assert first is second
    region = next(first)
    cache.policy.left(region)
    with pytest.raises(RuntimeError, match="changed"):
        next(first)
    cache.policy.sealed(region)
    assert region.number in in_order(cache)
    assert sum(1 for _ in window) + 1 < len(in_order(cache))


def test_references_are_given_back(cache: Simulated) -> None:
    """Of all that was handed out or in, and of the whole when nobody has it any more."""
    policy, region = cache.policy, cache.policy.evict()
    assert region is not None
    key = region.keys[region.passed]
    numbers = next(each for each in CHOICES)
    before = [sys.getrefcount(each) for each in (region, key, cache, numbers, None)]
    for _ in range(1000):
        policy.evict()
        policy.visited(region, region.passed)
        policy.sealed(region)
        list(policy.order())
        policy.wanted(key)
        policy.stored(key, 1, 0)
        with suppress(TypeError):
            policy.stored(key)  # type: ignore[call-arg]
        with suppress(IndexError):
            policy.visited(region, 1000)
    after = [sys.getrefcount(each) for each in (region, key, cache, numbers, None)]
    assert all(abs(one - other) < 50 for one, other in zip(before, after, strict=True))


def test_policies_die_with_their_cache(cache: Simulated) -> None:
    regions = [weakref.ref(region) for region in cache.regions.values()]
    order = iter(cache.policy.queues()[1])
    assert next(order) is not None
    other = Simulated(make_policy, maxsize=10)
    for key in range(100):
        other.access(key)
    mortal = weakref.ref(other)
    del other
    gc.collect()
    assert mortal() is None
    assert all(region() is not None for region in regions)


def test_keys_that_come_and_go_are_let_go() -> None:
    """Before the cache is full nothing goes, and the sample is told of ever new keys. The store lets go of what was in
    a segment when that is mostly dead.
    """

    class Key:
        there = 0

        def __init__(self) -> None:
            Key.there += 1

        def __del__(self) -> None:
            Key.there -= 1

    cache: VolatileCache[Hashable, bytes] = VolatileCache(maxsize=1000)
    cache["it stays"] = b""
    for _ in range(5000):
        key = Key()
        cache[key] = bytes(2000)
        del cache[key], key
    gc.collect()
    assert Key.there < 2000


class BadKey:
    """Its hash fails."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __hash__(self) -> int:
        raise self.error


def test_a_key_without_a_hash_is_nobodys_fault(cache: Simulated) -> None:
    policy, region = cache.policy, AskedRegion(10_000, KEPT)
    bad, interrupted = BadKey(ValueError), BadKey(KeyboardInterrupt)
    for key in (bad, interrupted):
        region.append(key, 1, 1, 0)
    assert policy.stored(bad, 1, 0) == FRESH
    assert policy.wanted(bad) >= 0
    policy.visited(region, 0)
    for call in (
        lambda: policy.stored(interrupted, 1, 0),
        lambda: policy.wanted(interrupted),
        lambda: policy.visited(region, 1),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()


@pytest.mark.parametrize(
    ("what", "answer", "error"),
    [
        ("used", -1, ValueError),
        ("used", "many", TypeError),
        ("number", -5, ValueError),
        ("number", 2**70, OverflowError),
        ("queue", None, TypeError),
    ],
)
def test_nonsense_is_an_error(cache: Simulated, what: str, answer: Any, error: type[Exception]) -> None:
    region = AskedRegion(10_000, FRESH)
    setattr(region, what, answer)
    before = in_order(cache)
    with pytest.raises(error):
        cache.policy.sealed(region)
    assert in_order(cache) == before


def test_wrong_arguments() -> None:
    class Few(Simulated):
        pass

    figures: Figures = Few(make_policy, maxsize=3)
    with pytest.raises(ValueError, match="choices"):
        TinyLFU(figures, None, (), 0, Stay)
    with pytest.raises(ValueError, match="choices"):
        TinyLFU(figures, None, CHOICES, len(CHOICES), Stay)
    with pytest.raises(TypeError):
        TinyLFU(figures, None, (1,), 0, Stay)
    with pytest.raises(TypeError, match="Lookup"):
        TinyLFU(figures, figures, CHOICES, 0, Stay)
    with pytest.raises(ZeroDivisionError):
        TinyLFU(figures, None, CHOICES, 0, lambda queue, visits: queue // visits)
    with pytest.raises(TypeError):
        copy.copy(WindowTinyLFU(figures))
    with pytest.raises(TypeError):
        WindowTinyLFU(figures).visited(1)  # type: ignore[call-arg]


def test_it_tells_its_size() -> None:
    """Eight bytes an entry at most, beside some 60 KiB."""
    small, large = Simulated(make_policy, maxsize=100), Simulated(make_policy, maxsize=20_000)
    for cache, entries in ((small, 100), (large, 20_000)):
        for key in range(2 * entries):
            cache.access(key)
        assert sys.getsizeof(cache.policy) < 8 * entries + (60 << 10)
    assert sys.getsizeof(large.policy) > sys.getsizeof(small.policy) + 6 * 19_000


def test_what_is_asked_of_a_large_value() -> None:
    class Value(OneValue):
        pass

    value = Value()
    value.number, value.queue, value.used, value.took = 1, FRESH, 100, 9
    value.visit(0)
    assert (value.visits(0), value.size(0), value.cost(0), value.read_since) == (1, 100, 9, 1)
    value.stay(KEPT, 3)
    assert (value.queue, value.visits(0)) == (KEPT, 3)
    with pytest.raises(TypeError):
        value.stay(KEPT)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        value.used = "many"  # type: ignore[assignment]
    value.used = -1
    policy: Any = WindowTinyLFU(Simulated(make_policy, maxsize=1))
    with pytest.raises(ValueError, match="negative"):
        policy.sealed(value)


def test_where_an_allocation_fails(cache: Simulated) -> None:
    testcapi = pytest.importorskip("_testcapi", reason="a Python without its own tests' module")
    if sys.gettrace() is not None:
        pytest.skip("coverage's tracer does not survive that an allocation fails")
    policy, numbers = WindowTinyLFU(cache), itertools.count(1)

    def some_sealed() -> list[SimulatedRegion]:
        regions = [SimulatedRegion(next(numbers), number % 2) for number in range(40)]
        for region in regions:
            region.append(region.number, 10, 1, 0)
        return regions

    for start in range(40):
        regions = some_sealed()
        with suppress(MemoryError):
            testcapi.set_nomemory(start, start + 3)
            try:
                for region in regions:
                    policy.sealed(region)
                    policy.visited(region, 0)
                    policy.stored(region.number, 10, 0)
            finally:
                testcapi.remove_mem_hooks()
        there = [region.number for region in policy.order()]
        assert len(there) == len(set(there))
        for region in regions:
            policy.left(region)
        policy.mended()
        assert not list(policy.order())
