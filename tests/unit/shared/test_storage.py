"""What the keeper keeps, against a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from mvolatile import NoRoomError, TooLargeError
from mvolatile._core import boot_seconds
from mvolatile.shared.storage import SEGMENT, Storage

Make = Callable[..., Storage]


@pytest.fixture
def make(_leaves_nothing: None) -> Iterator[Make]:
    import os

    made: list[Storage] = []

    def make_one(max_bytes: int | None = None, used: Callable[[int], bool] = lambda slot: False) -> Storage:
        made.append(Storage("test", max_bytes, used))
        return made[-1]

    yield make_one
    for one in made:
        one.clear()
        os.close(one.table)
    made.clear()


def is_valid(storage: Storage) -> bool:
    """The invariants, at rest."""
    live: dict[int, int] = {}
    slots, _ = storage.index.scan(0, storage.index.capacity)
    assert len(slots) == storage.index.used
    for slot in slots:
        _, address, size, *_ = storage.index.get(slot)
        segment = storage._segment_of(address)
        assert segment.start <= address
        assert address + size <= segment.start + segment.nbytes
        live[segment.start] = live.get(segment.start, 0) + size
    assert storage._starts == sorted(storage._segments)
    assert {start: one.live for start, one in storage._segments.items() if one.live} == live
    assert storage.nbytes == sum(live.values())
    return True


def get(storage: Storage, key: bytes) -> bytes | None:
    slot = storage.slot(key)
    record = None if slot < 0 else storage.index.read(slot)
    assert record is None or record[0] == key
    return None if record is None else record[1]


@pytest.mark.parametrize("seed", range(4))
def test_as_a_dictionary(make: Make, seed: int) -> None:
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
    assert storage.index.used == len(model)
    held = sum(segment.used for segment in storage._segments.values())
    assert held * 3 <= storage.nbytes * 4 + 8 * SEGMENT * 3


def test_many_entries_and_the_table_moves(make: Make) -> None:
    storage = make()
    n = 30_000
    for i in range(n):
        storage.put(b"%d" % i, b"v%d" % i, len(b"v%d" % i), 0, 0.0)
    assert storage.index.used == n
    assert storage.index.capacity == 65536
    assert all(get(storage, b"%d" % i) == b"v%d" % i for i in range(n))
    assert is_valid(storage)
    assert storage.overhead() / n <= 150
    for i in range(n):
        storage.remove(storage.slot(b"%d" % i))
    assert storage.nbytes == storage.index.used == 0
    assert storage.segments <= 1


def test_a_bound_is_kept_and_what_is_used_stays(make: Make) -> None:
    storage = make(1 << 20)
    hot = {b"hot%d" % i for i in range(20)}
    storage._used_lately = lambda slot: storage.index.probe(slot) in hot
    for key in hot:
        storage.put(key, b"h" * 1000, 1000, 0, 0.0)
    for i in range(5000):
        storage.put(b"cold%d" % i, b"c" * 1000, 1000, 0, 0.0)
        assert storage.nbytes <= 1 << 20
    assert all(get(storage, key) == b"h" * 1000 for key in hot)
    assert storage.evicted > 3000
    assert is_valid(storage)
    held = sum(segment.used for segment in storage._segments.values())
    assert held <= (1 << 20) * 4 / 3 + 4 * SEGMENT


def test_large_ones_that_are_used_stay(make: Make) -> None:
    storage = make(4 << 20)
    storage._used_lately = lambda slot: storage.index.probe(slot) == b"hot"
    storage.put(b"hot", bytes(100_000), 100_000, 0, 0.0)
    for i in range(200):
        storage.put(b"cold%d" % i, bytes(100_000), 100_000, 0, 0.0)
    assert get(storage, b"hot") == bytes(100_000)
    assert is_valid(storage)


def test_all_are_used_and_some_must_go(make: Make) -> None:
    storage = make(1 << 20, lambda slot: True)
    for i in range(5000):
        storage.put(b"%d" % i, bytes(1000), 1000, 0, 0.0)
    assert storage.nbytes <= 1 << 20
    assert is_valid(storage)


def test_one_key_again_and_again(make: Make) -> None:
    """Its older records are in the same memory, and must not be given up twice."""
    storage = make(1 << 20)
    for i in range(4000):
        storage.put(b"hot", bytes(i % 900), i % 900, 0, 0.0)
        storage.put(b"%d" % (i % 2000), bytes(1000), 1000, 0, 0.0)
    storage.purge(None)
    storage.look_for_losses()
    assert storage.nbytes <= 1 << 20
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
    assert storage.segments == 0
    assert is_valid(storage)


def test_what_is_over_leaves(make: Make) -> None:
    storage = make()
    for i in range(100):
        storage.put(b"%d" % i, b"v", 1, 0, boot_seconds() + (-1 if i % 2 else 1000))
    assert storage.slot(b"1") == -1
    storage.sweep()
    assert storage.index.used == 50
    storage.touch(storage.slot(b"0"), boot_seconds() - 1)
    assert storage.slot(b"0") == -1
    assert storage.expired == 51


def test_what_the_kernel_took_leaves(make: Make) -> None:
    storage = make()
    for i in range(3000):
        storage.put(b"%d" % i, b"v" * 1000, 1000, 0, 0.0)
    before = storage.segments
    assert storage.purge(1 << 20) >= 1 << 20
    assert storage.whole_slot(b"0") == -1
    lost = storage.look_for_losses()
    assert lost > 900
    assert storage.purged == lost + 1
    assert storage.index.used == 3000 - lost - 1
    assert storage.segments < before
    assert get(storage, b"2999") == b"v" * 1000
    assert is_valid(storage)
    most = storage._most()
    assert most < 3_000_000
    for i in range(3000):
        storage.put(b"new%d" % i, b"v" * 1000, 1000, 0, 0.0)
    assert storage.nbytes <= storage._most() <= most * 1.1
