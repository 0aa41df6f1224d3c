"""What the keeper keeps, against a dictionary."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Container, Iterator
from random import Random

import pytest

from mvolatile import NoRoomError, TooLargeError
from mvolatile._core import boot_seconds
from mvolatile.shared import segment as sizes
from mvolatile.shared import segments
from mvolatile.shared.segments import SEGMENT
from mvolatile.shared.storage import Storage

Make = Callable[..., Storage]


class Used:
    """What clients say: what they counted, or that `keys` are used all the time, or all are."""

    storage: Storage

    def __init__(self, keys: Container[bytes] = (), all: bool = False) -> None:
        self.keys, self.all = keys, all
        self.counted: dict[int, int] = {}

    def uses(self, slot: int, generation: int) -> int:
        assert generation == self.storage.index.generation
        if self.all or self.storage.index.slots.probe(slot) in self.keys:
            return 1
        return self.counted.get(slot, 0)

    def forget_uses(self, slot: int, generation: int) -> None:
        assert generation == self.storage.index.generation
        self.counted.pop(slot, None)

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, 0


@pytest.fixture
def make(_leaves_nothing: None) -> Iterator[Make]:
    made: list[Storage] = []

    def make_one(max_bytes: int | None = None, used: Used | None = None) -> Storage:
        used = used or Used()
        used.storage = Storage("test", max_bytes, used)
        made.append(used.storage)
        return used.storage

    yield make_one
    for one in made:
        one.clear()
        one.index.close()
    made.clear()


def is_valid(storage: Storage) -> bool:
    """The invariants, at rest."""
    live: dict[int, int] = {}
    slots, _ = storage.index.slots.scan(0, storage.index.slots.capacity)
    assert len(slots) == storage.index.slots.used
    segments = storage.segments
    for slot in slots:
        _, address, size, *_ = storage.index.slots.get(slot)
        segment = segments.of(address)
        assert segment.start <= address
        assert address + size <= segment.start + segment.nbytes
        live[segment.start] = live.get(segment.start, 0) + size
    assert {one.start: one.live for one in segments.all() if one.live} == live
    assert segments.nbytes == sum(live.values())
    assert segments.held == sum(one.used - one.emptied for one in segments.all())
    assert segments.records == sum(len(one.keys) for one in segments.all())
    ordered = [region.number for region in storage.reclaimer._policy.order()]
    assert sorted(ordered) == sorted(one.number for one in segments.all() if not one.is_open)
    assert {one.number for of in (segments.open, segments._nearly_full) for one in of.values()} == {
        one.number for one in segments.all() if one.is_open
    }
    for one in segments.all():
        where = [one.address(i) for i in range(len(one.keys))]
        assert where == sorted(set(where))
        assert sum(map(one.size, range(len(one.keys)))) == one.used
        lives = [i for i in range(len(one.keys)) if storage.reclaimer.evictable.lives(one, i)]
        assert one.live == live.get(one.start, 0)
        assert len(lives) == len({one.keys[i] for i in lives})
    return True


def get(storage: Storage, key: bytes) -> bytes | None:
    slot = storage.slot(key)
    record = None if slot < 0 else storage.index.slots.read(slot)
    assert record is None or record[0] == key
    return None if record is None else record[1]


@pytest.mark.parametrize("seed", range(6))
def test_as_a_dictionary(make: Make, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last two seeds all share huge pages from the beginning."""
    if seed >= 4:
        monkeypatch.setattr(sizes, "TIMES", 0)
        monkeypatch.setattr(segments, "LITTLE", 1 if seed == 4 else 1 << 40)
    random = Random(seed)
    storage = make()
    model: dict[bytes, bytes] = {}
    for step in range(3000):
        key = b"k%d" % random.randrange(400)
        what = random.random()
        if what < 0.7:
            value = random.randbytes(
                random.choice([0, 10, 100, 3000, 30_000, 40_000, 100_000])
                if what < 0.3
                else random.randrange(2000)
            )
            storage.put(key, value, len(value), 0, 0.0)
            model[key] = value
        elif what < 0.9:
            slot = storage.slot(key)
            assert (slot >= 0) == (key in model)
            if slot >= 0:
                storage.remove(slot)
                del model[key]
        elif what < 0.901:
            storage.clear()
            model.clear()
        if step % 500 == 0:
            assert is_valid(storage)
    assert is_valid(storage)
    assert {key: get(storage, key) for key in model} == model
    assert storage.index.slots.used == len(model)
    held = sum(segment.used for segment in storage.segments.all())
    assert held * 3 <= storage.segments.nbytes * 4 + 8 * SEGMENT * 3


def test_many_entries_and_the_table_moves(make: Make) -> None:
    storage = make()
    n = 30_000
    for i in range(n):
        storage.put(b"%d" % i, b"v%d" % i, len(b"v%d" % i), 0, 0.0)
    assert storage.index.slots.used == n
    assert storage.index.slots.capacity == 65536
    assert all(get(storage, b"%d" % i) == b"v%d" % i for i in range(n))
    assert is_valid(storage)
    assert storage.reclaimer.overhead / n <= 150
    for i in range(n):
        storage.remove(storage.slot(b"%d" % i))
    assert storage.segments.nbytes == storage.index.slots.used == 0
    assert len(storage.segments) <= 1


@pytest.mark.parametrize("deleted", [0, 0.3, 0.48])
def test_its_own_memory_is_little(make: Make, deleted: float) -> None:
    """Also just after the table has grown, where it is full of deleted slots, and where costs are known."""
    storage, random = make(), Random(1)
    most = 0.0
    for i in range(40_000):
        storage.put(b"%d" % i, b"v", 1, 0, 0.0, cost=i % 256)
        if random.random() < deleted and (slot := storage.slot(b"%d" % random.randrange(i + 1))) >= 0:
            storage.remove(slot)
        if (entries := storage.index.slots.used) > 5_000:
            most = max(most, storage.reclaimer.overhead / entries)
    assert 100 < most <= 150


def test_a_table_shrinks_and_its_own_memory_with_it(make: Make) -> None:
    storage = make()
    for i in range(30_000):
        storage.put(b"%d" % i, b"v", 1, 0, 0.0)
    assert storage.index.slots.capacity == 65536
    for i in range(20_000):
        storage.remove(storage.slot(b"%d" % i))
    storage.tick()
    assert storage.index.slots.capacity == 16384
    assert storage.reclaimer.overhead / storage.index.slots.used <= 150
    assert get(storage, b"29999") == b"v"
    assert is_valid(storage)
    storage.clear()
    storage.tick()
    assert storage.index.slots.capacity == 4096


def test_no_larger_table_is_to_be_had(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = make()
    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", refused)
        for i in range(4095):
            storage.put(b"%d" % i, b"v", 1, 0, 0.0)
        with pytest.raises(NoRoomError):
            storage.put(b"4095", b"v", 1, 0, 0.0)
        assert storage.slot(b"4095") == -1
        assert get(storage, b"4094") == b"v"
        assert is_valid(storage)
    storage.put(b"4095", b"v", 1, 0, 0.0)
    assert storage.index.slots.used == 4096
    assert is_valid(storage)


def refused(*unused: object) -> int:
    raise OSError(errno.EMFILE, "no descriptor is left")


def test_a_bound_is_kept_and_what_is_used_stays(make: Make) -> None:
    hot = {b"hot%d" % i for i in range(20)}
    storage = make(1 << 20, Used(hot))
    for key in hot:
        storage.put(key, b"h" * 1000, 1000, 0, 0.0)
    for i in range(5000):
        storage.put(b"cold%d" % i, b"c" * 1000, 1000, 0, 0.0)
        assert storage.segments.nbytes <= 1 << 20
    assert all(get(storage, key) == b"h" * 1000 for key in hot)
    assert storage.reclaimer.evictable.evicted > 3000
    assert is_valid(storage)
    held = sum(segment.used for segment in storage.segments.all())
    assert held <= (1 << 20) * 4 / 3 + 4 * SEGMENT


def test_large_ones_that_are_used_stay(make: Make) -> None:
    storage = make(4 << 20, Used({b"hot"}))
    storage.put(b"hot", bytes(100_000), 100_000, 0, 0.0)
    for i in range(200):
        storage.put(b"cold%d" % i, bytes(100_000), 100_000, 0, 0.0)
    assert get(storage, b"hot") == bytes(100_000)
    assert is_valid(storage)


def test_large_ones_of_a_large_cache_share_huge_pages(make: Make) -> None:
    storage = make()
    value = bytes(200_000)
    for i in range(sizes.HUGE * sizes.TIMES // len(value) + 1):
        storage.put(b"early%d" % i, value, len(value), 0, 0.0)
    alone = len(storage.segments)
    for i in range(30):
        storage.put(b"%d" % i, b"%07d" % i * 30_000, 210_000, 0, 0.0)
    assert len(storage.segments) == alone + 4  # 9 each
    assert storage.segments.pinned() == sizes.HUGE
    lost = storage.segments.all()[-3:-1]
    for segment in lost:
        segment.memory.purge()
    there = [storage.segments.of(storage.index.slots.get(storage.slot(b"%d" % i))[1]) for i in range(30)]
    for i in range(30):
        assert get(storage, b"%d" % i) == (None if there[i] in lost else b"%07d" % i * 30_000)
    assert sum(storage.whole_slot(b"%d" % i) < 0 for i in range(30)) == 18
    assert is_valid(storage)


def test_large_ones_fill_what_is_spare_of_another_size(make: Make) -> None:
    """Fresh memory takes longer than the copy. Small ones, and those with memory of their own, wait for their size."""
    storage = make()
    shared, size = storage.segments, 300_000
    for i in range(120):
        storage.put(b"%d" % i, bytes(size), size, 0, 0)
    assert shared.held >= 32 << 20
    shared.seal(0)
    storage.put(b"last", bytes(size), size, 0, 0)
    emptied = shared.open[0]
    assert emptied.nbytes == 2 * sizes.HUGE
    shared.seal(0)
    storage.remove(storage.slot(b"last"))
    assert not shared.has(emptied)

    storage.put(b"small", bytes(100), 100, 0, 0)
    storage.put(b"own", bytes(3 << 20), 3 << 20, 0, 0)
    assert all(one.memory is not emptied.memory for one in shared.all())
    shared.seal(0)
    storage.put(b"smaller", bytes(100_000), 100_000, 0, 0)
    assert shared.open[0] is emptied
    assert storage.index.slots.read(storage.slot(b"smaller")) == (b"smaller", bytes(100_000))


def test_large_ones_that_share_memory_go_one_by_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "TIMES", 0)
    monkeypatch.setattr(segments, "LITTLE", 1)
    hot = {b"3", b"17"}
    storage = make(8 << 20, Used(hot))
    for i in range(300):
        storage.put(b"%d" % i, bytes(200_000), 200_000, 0, 0.0)
    assert storage.segments.nbytes > (8 << 20) - 3 * 200_100  # and not a whole segment less
    assert all(get(storage, key) == bytes(200_000) for key in hot)
    assert is_valid(storage)


def test_what_moves_to_memory_of_its_own_is_volatile(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache has become so small that large ones share nothing any more."""
    monkeypatch.setattr(sizes, "TIMES", 0)
    storage = make(used=Used({b"7"}))
    for i in range(60):
        storage.put(b"%d" % i, bytes(200_000), 200_000, 0, 0.0)
    monkeypatch.setattr(sizes, "TIMES", 1 << 40)
    storage.resize(1 << 20)
    assert get(storage, b"7") == bytes(200_000)
    assert not storage.segments.of(storage.index.slots.get(storage.slot(b"7"))[1]).is_open
    assert is_valid(storage)


def test_all_are_used_and_some_must_go(make: Make) -> None:
    storage = make(1 << 20, Used(all=True))
    for i in range(2500):
        storage.put(b"%d" % i, bytes(1000), 1000, 0, 0.0)
    assert storage.segments.nbytes <= 1 << 20
    assert is_valid(storage)


def test_one_key_again_and_again(make: Make) -> None:
    """Its older records are in the same memory, and must not be given up twice."""
    storage = make(1 << 20)
    for i in range(4000):
        storage.put(b"hot", bytes(i % 900), i % 900, 0, 0.0)
        storage.put(b"%d" % (i % 2000), bytes(1000), 1000, 0, 0.0)
    storage.purge(None)
    storage.reclaimer.look_for_losses()
    assert storage.segments.nbytes <= 1 << 20
    assert is_valid(storage)


def test_too_large_and_no_room(make: Make) -> None:
    storage = make(10_000)
    storage.put(b"key", b"old", 3, 0, 0.0)
    with pytest.raises(TooLargeError):
        storage.put(b"key", bytes(20_000), 20_000, 0, 0.0)
    assert storage.slot(b"key") == -1
    storage.resize(None)
    storage.put(b"key", b"old", 3, 0, 0.0)
    with pytest.raises(NoRoomError):
        storage.put(b"key", -1, 1 << 45, 0, 0.0)
    assert storage.slot(b"key") == -1
    assert is_valid(storage)


def test_a_mailbox_that_is_too_short(make: Make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    storage = make()
    with open(tmp_path / "short", "wb+") as file:
        file.write(b"x" * 50_000)
        file.flush()
        storage.put(b"key", file.fileno(), 50_000, 0, 0.0)
        assert get(storage, b"key") == b"x" * 50_000
        with pytest.raises(OSError, match="mailbox"):
            storage.put(b"key", file.fileno(), 50_001, 0, 0.0)
    assert storage.slot(b"key") == -1
    assert len(storage.segments) == 0
    assert is_valid(storage)


def test_what_is_over_leaves(make: Make) -> None:
    storage = make()
    for i in range(100):
        storage.put(b"%d" % i, b"v", 1, 0, boot_seconds() + (-1 if i % 2 else 1000))
    assert storage.slot(b"1") == -1
    storage.sweep()
    assert storage.index.slots.used == 50
    storage.touch(storage.slot(b"0"), boot_seconds() - 1)
    assert storage.slot(b"0") == -1
    assert storage.reclaimer.expired == 51


def test_what_the_kernel_took_leaves(make: Make) -> None:
    storage = make()
    n = 12_000
    for i in range(n):
        storage.put(b"%d" % i, b"v" * 1000, 1000, 0, 0.0)
    before, limit = len(storage.segments), storage.reclaimer.budget.limit
    assert limit == math.inf
    assert storage.purge(1 << 20) >= 1 << 20
    assert storage.whole_slot(b"0") == -1
    lost = storage.reclaimer.look_for_losses()
    assert lost > 900
    assert storage.reclaimer.purged == lost + 1
    assert storage.index.slots.used == n - lost - 1
    assert len(storage.segments) < before
    assert get(storage, b"%d" % (n - 1)) == b"v" * 1000
    assert is_valid(storage)
    for i in range(n):
        storage.put(b"new%d" % i, b"v" * 1000, 1000, 0, 0.0)
        assert storage.segments.nbytes <= storage.reclaimer.budget.limit + 10_000 < n * 1100
    assert storage.reclaimer.evictable.evicted > n / 2
    assert is_valid(storage)


def test_what_is_read_once_leaves_what_is_read_often(make: Make) -> None:
    """What the policy is for: first in, first out would keep none of them, and least recently used none either."""
    used = Used()
    storage = make(1 << 20, used)
    often = [b"often%d" % i for i in range(100)]
    hits = asked = 0
    for i in range(10_000):
        storage.put(b"once%d" % i, bytes(1000), 1000, 0, 0.0)
        if i % 20 == 0:
            key, asked = often[i // 20 % 100], asked + 1
            if (slot := storage.slot(key)) >= 0:
                hits += 1
                used.counted[slot] = used.counted.get(slot, 0) + 1
            else:
                storage.put(key, bytes(1000), 1000, 0, 0.0)
    assert hits > asked / 2
    assert is_valid(storage)
