"""The store alone, with no cache around it: bytes by key, moved, lost and put in order after an interrupt."""

from __future__ import annotations

import random
from typing import Any

import pytest

import mvolatile as mv
from mvolatile.cache.store import FRESH, KEPT, NO_CLASS, SLOTS, LargeValue, Segment, Store, mend, region_of


def is_valid(store: Store) -> bool:
    regions = store.regions.values()
    assert store.nbytes == sum(region.used - region.emptied for region in regions)
    assert store.overhead == sum(region.overhead - region.emptied_overhead for region in regions)
    assert set(store.lookup.tables) == set(store.regions)
    return True


def test_bytes_and_a_kind_come_back() -> None:
    store = Store()
    store.put("small", 5, b"some bytes")
    store.put("large", 9, b"x" * 100_000)
    assert store.read("small") == (5, b"some bytes")
    assert store.read("large") == (9, b"x" * 100_000)
    assert {type(region) for region in store.regions.values()} == {Segment, LargeValue}
    assert store.remove("small", None, "deleted")
    with pytest.raises(KeyError):
        store.read("small")
    assert is_valid(store)


def test_it_is_a_dictionary_of_bytes_whatever_is_done_to_it() -> None:
    rng, store = random.Random(7), Store(most=1 << 20)
    known: dict[int, tuple[int, bytes]] = {}
    for step in range(5000):
        key, kind = rng.randrange(300), rng.randrange(16)
        data = bytes([rng.randrange(256)]) * rng.choice([1, 100, 100, 3000, 70_000])
        store.put(key, kind, data, queue=rng.randrange(3))
        known[key] = kind, data
        if step % 7 == 0 and known:
            gone = rng.choice(list(known))
            del known[gone]
            store.remove(gone, None, "deleted")
        if step % 50 == 0:
            store.seal_all()
            for region in list(store.regions.values()):
                if isinstance(region, Segment) and rng.random() < 0.3 and not region.gone:
                    store.compact(region)
        store.work(20)
        store.clean(20)
    assert {key: store.read(key) for key in known} == known
    assert len(store.index) == len(known)
    assert is_valid(store)


def test_it_tells_of_what_was_sealed_and_of_what_left() -> None:
    store = Store(most=64 << 10)
    sealed: list[Any] = []
    retired: list[Any] = []
    told: list[Any] = []
    store.sealed, store.retired = sealed.append, retired.append
    store.tell = lambda key, why: told.append((key, why))
    for key in range(200):
        store.put(key, 0, b"x" * 1000)
    store.put(0, 0, b"y")
    assert sealed
    assert told == [(0, "replaced")]
    segment = sealed[0]
    for slot, key in enumerate(segment.keys[:2]):
        if store.lives(segment, slot):
            store.evict(key)
    store.drop(segment, lost=False)
    assert retired == [segment]
    assert store.clean(4096)
    assert all(key not in store.index for key in segment.keys if key != 0)


def test_visits_are_counted_and_moved_along() -> None:
    store = Store()
    store.put("k", 0, b"data")
    (segment,) = store.regions.values()
    assert isinstance(segment, Segment)
    assert segment.visits(0) == 0
    for _ in range(300):
        segment.visit(0)
    assert segment.visits(0) == 255
    store.seal_all()
    store.move(segment, 0, 7, 3)
    moved = store.regions[region_of(store.index["k"])]
    assert (moved.queue, moved.visits(0)) == (7, 3)
    assert store.read("k") == (0, b"data")


@pytest.mark.skipif(not mv.features().can_purge, reason="nothing is purged in this tier")
def test_what_the_kernel_took_is_gone_and_nothing_else() -> None:
    store = Store()
    for key in range(100):
        store.put(key, 1, b"%d." % key * 100)
    store.put("large", 2, b"l" * 100_000)
    store.seal_all()
    for region in store.regions.values():
        if region.keys == ["large"]:
            region.memory.purge()
    with pytest.raises(KeyError):
        store.read("large")
    assert (store.purged, store.taken) == (1, True)
    assert all(store.read(key) == (1, b"%d." % key * 100) for key in range(100))


class Interrupts:
    def __hash__(self) -> int:
        raise KeyboardInterrupt


def test_an_interrupt_in_the_middle_is_mended() -> None:
    store = Store()
    store.put("a", 0, b"a")
    (segment,) = store.regions.values()
    assert isinstance(segment, Segment)

    with pytest.raises(KeyboardInterrupt):
        store.put(Interrupts(), 0, b"b")
    assert segment.table.count == 2
    store.open.clear()
    mend(store)
    assert not segment.is_open
    assert store.read("a") == (0, b"a")
    store.put("b", 0, b"again")
    assert store.read("b") == (0, b"again")
    assert is_valid(store)


def test_compaction_keeps_values_in_their_own_queue() -> None:
    assert KEPT < 4
    store = Store()
    store.put("k", 0, b"data", queue=4)
    store.seal_all()
    (segment,) = store.regions.values()
    assert isinstance(segment, Segment)
    store.compact(segment)
    assert store.work(10)
    assert store.regions[region_of(store.index["k"])].queue == 4


def test_a_segment_has_as_many_slots_as_a_locator_can_tell() -> None:
    """The bad schedule: one more reaches into the number of the next region, and a get finds another's value."""
    store = Store()
    segment = Segment(store.next_number(), mv.VolatileMemory(1 << 20), FRESH)
    store.regions.enter(segment, segment.table)
    for _ in range(SLOTS - 1):
        segment.table.append(b"x")
    segment.mend()

    def enter(key: str) -> object:
        return store.lookup.enter(segment, key, 0, b"yy", 0, 0, len)

    assert enter("last") is None
    assert enter("one more") is False
    assert store.read("last") == (0, b"yy")
    store.lookup.arm(
        segment.table, segment.keys, segment.number, 1000, lambda _: True, int, {}, [], len, NO_CLASS
    )
    store.lookup.torn = False
    assert not store.lookup.put("one more", b"zz")
