"""The slot table and records: what a reader believes, and what it does not."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from random import Random
from typing import Any, cast

import pytest

from mvolatile import VolatileMemory
from mvolatile._core import HINTS_HEADER, SharedFile, SlotIndex, Table, tier
from mvolatile.shared import keys
from mvolatile.shared.values import allocate

MISS, MOVED, GONE, REFUSED, PURGED, BUSY = range(1, 7)
PAGE = mmap.PAGESIZE
HEADER = 4096


class Room:
    """A table, as keeper and client have it, and memory for records."""

    def __init__(self, stamped: bool, capacity: int = 64, nbytes: int = 1 << 20) -> None:
        self.capacity, self.stamped = capacity, stamped
        self.file = SharedFile(SlotIndex.nbytes(capacity))
        self.index = SlotIndex(self.file.fileno(), capacity, 1234567, 1, 2, stamped)
        self.table = self.reader()
        self.memory = VolatileMemory(nbytes, "records")
        self.pin = self.memory.pin(write=True)
        self.pin.__enter__()
        self.at = self.memory.address
        self.version = 0

    def reader(self, pid: int | None = None) -> Table:
        hints = SharedFile(HINTS_HEADER + self.capacity)
        return Table(
            self.file.fileno(),
            SlotIndex.nbytes(self.capacity),
            pid or os.getpid(),
            hints.fileno(),
            0.0,
            keys.encode,
            allocate,
        )

    def put(self, key: Any, value: bytes, address: int | None = None, expires: float = 0.0) -> int:
        encoded = keys.encode(key)
        self.version += 2
        address = self.at if address is None else address
        self.index.put(encoded, value, address, len(value), 0, expires, self.version)
        self.at = max(self.at, address + self.index.size(address, len(encoded), len(value)) + 15 & ~15)
        return self.slot(key)

    def slot(self, key: Any) -> int:
        return self.index.find(self.index.hash(keys.encode(key)))

    def seal(self) -> None:
        self.pin.__exit__(None, None, None)

    def purge(self, offset: int, length: int) -> None:
        from mvolatile import testing

        testing.purge(self.memory, [(offset, length)])


@pytest.fixture(params=[False, True], ids=["plain", "stamped"])
def room(request: pytest.FixtureRequest, _leaves_nothing: None) -> Iterator[Room]:
    if not request.param and tier() != "userfaultfd":
        pytest.skip("pages that are purged do not fault here")
    made = Room(request.param)
    yield made
    vars(made).clear()


SIZES = [0, 1, 100, 4000, 4078, 4079, 4080, 4081, 4088, 5000, 9000, 65536, 100_000, 300_000, 700_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 16, 4080])
def test_what_is_written_is_read(room: Room, size: int, offset: int) -> None:
    value = Random(size).randbytes(size)
    room.put("key", value, room.at + offset)
    assert room.table.find("key") == value
    assert room.table.entry("key") == (2, 0.0, 0, value)
    assert room.table.probe("key") == (2, 0.0)
    assert room.index.read(room.slot("key")) == (b"skey", value)
    room.seal()
    assert room.table.find("key") == value


def test_no_page_can_be_missing_unseen(room: Room) -> None:
    """17: the page of the stamp, one in the middle, the last; zeros are stored, and so no value tells."""
    size = 5 * PAGE
    room.put("key", bytes(size), room.at + PAGE - 16)
    room.seal()
    pages = range(6)
    for page in pages:
        assert room.table.find("key") == bytes(size)
        room.purge(page * PAGE, PAGE)
        assert room.table.find("key") == room.table.probe("key") == room.table.entry("key") == PURGED
        assert room.index.read(room.slot("key")) is None
        assert room.index.probe(room.slot("key")) is None
        room = Room(room.stamped)
        room.put("key", bytes(size), room.at + PAGE - 16)
        room.seal()


def test_a_long_key_over_two_pages(room: Room) -> None:
    key = "k" * 60_000
    room.put(key, b"value", room.at + 16)
    assert room.table.find(key) == b"value"
    room.seal()
    room.purge(8 * PAGE, PAGE)
    assert room.table.find(key) == PURGED


def test_missing_and_deleted(room: Room) -> None:
    for i in range(30):
        room.put(i, b"%d" % i)
    assert room.table.find("other") == MISS
    for i in range(0, 30, 2):
        room.index.remove(room.slot(i))
    assert [room.table.find(i) for i in range(30)] == [b"%d" % i if i % 2 else MISS for i in range(30)]
    assert (room.index.used, room.index.filled) == (15, 30)
    for i in range(0, 30, 2):
        room.put(i, b"again")
    assert room.index.filled <= 45
    assert all(room.table.find(i) == b"again" for i in range(0, 30, 2))
    room.index.clear()
    assert all(room.table.find(i) == MISS for i in range(30))
    assert cast(Any, room.table.scan(0, 99))[0] == []


def test_it_says_that_it_has_moved(room: Room) -> None:
    """24: what the old table tells is not believed any more."""
    for i in range(30):
        room.put(i, b"%d" % i)
    bigger = Room(room.stamped, 256)
    room.index.move(bigger.index)
    assert room.table.moved
    assert all(room.table.find(i) == MOVED for i in range(40))
    assert all(cast(Any, bigger.table.entry(i))[3] == b"%d" % i for i in range(30))
    assert bigger.index.used == 30


def test_a_slot_that_is_written_for_ever(room: Room) -> None:
    """22: its writer was killed."""
    slot = room.put("key", b"value")
    with mmap.mmap(room.file.fileno(), 0) as words:
        at = HEADER + slot * 40
        (version,) = struct.unpack_from("<Q", words, at)
        struct.pack_into("<Q", words, at, version | 1)
        assert room.table.find("key") == BUSY
        assert room.table.probe("key") == BUSY
        struct.pack_into("<Q", words, at, version)
    assert room.table.find("key") == b"value"


def test_memory_of_another_value(room: Room) -> None:
    """13: memory was used anew, and the slot says the old version still: the stamp is another's."""
    where = room.at
    slot = room.put("key", b"value")
    with mmap.mmap(room.file.fileno(), 0) as words:
        at = HEADER + slot * 40
        before = words[at : at + 40]
        room.put("key", b"other", where)
        assert room.table.find("key") == b"other"
        words[at : at + 40] = before
        assert room.table.find("key") == GONE
        assert room.index.read(slot) is None


def test_two_keys_of_one_hash(room: Room) -> None:
    """25."""
    slot = room.put("key", b"value")
    with mmap.mmap(room.file.fileno(), 0) as words:
        at = HEADER + slot * 40 + 8
        other = room.index.hash(keys.encode("yek"))
        for i in range(room.capacity):  # wherever its search begins
            words[HEADER + i * 40 : HEADER + i * 40 + 40] = words[at - 8 : at + 32]
            struct.pack_into("<Q", words, HEADER + i * 40 + 8, other)
    assert room.table.find("yek") == room.table.probe("yek") == room.table.entry("yek") == MISS


def test_expiry(room: Room) -> None:
    from mvolatile._core import boot_seconds

    slot = room.put("key", b"value", expires=boot_seconds() + 1000)
    assert room.table.find("key") == b"value"
    room.index.expire(slot, boot_seconds() - 1)
    assert room.table.find("key") == room.table.probe("key") == MISS
    assert cast(Any, room.table.scan(0, 99))[0] == []
    room.index.expire(slot, 0.0)
    assert room.table.find("key") == b"value"


def test_a_process_that_is_not_there(room: Room) -> None:
    room.put("key", b"value")
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert room.reader(child).find("key") == GONE


def test_another_process_of_that_number(room: Room) -> None:
    """14: it has memory there, and not ours."""
    room.put("key", b"value")
    started, tell = os.pipe()
    rest, let = os.pipe()
    child = os.fork()
    if not child:
        room.put("other", b"value", room.memory.address)  # another version: the child's memory is its own
        os.write(tell, b"1")
        os.read(rest, 1)
        os._exit(0)
    os.read(started, 1)
    # The index is a file and so the child's, too: take its change back.
    room.index.remove(room.slot("other"))
    assert room.reader(child).find("key") == GONE
    os.write(let, b"1")
    os.waitpid(child, 0)
    for descriptor in (started, tell, rest, let):
        os.close(descriptor)


@pytest.mark.parametrize(
    "key",
    [
        "text",
        "\xe9\u20ac",
        "\ud800",
        b"bytes",
        5,
        -(2**63),
        2**63,
        1.5,
        None,
        ("a", 1),
        "x" * 511,
        "x" * 600,
        True,
    ],
)
def test_keys_are_encoded_alike_in_c(room: Room, key: Any) -> None:
    room.put(key, b"value")
    assert room.table.find(key) == b"value"


def test_a_table_that_is_none() -> None:
    file = SharedFile(1 << 16)
    hints = SharedFile(1 << 12)
    with pytest.raises(OSError, match="table"):
        Table(file.fileno(), 1 << 16, os.getpid(), hints.fileno(), 0.0, keys.encode, allocate)
    with pytest.raises(OSError, match="table"):
        Table(file.fileno(), 10, os.getpid(), hints.fileno(), 0.0, keys.encode, allocate)


def test_a_file_is_neither_cut_nor_grown() -> None:
    file = SharedFile(1 << 16)
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(file.fileno(), size)
    assert fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    memoryview(file)[:4] = b"abcd"
    file.empty()
    assert bytes(memoryview(file)[:4]) == bytes(4)


def test_descriptors_that_the_program_closed_and_opened_anew(tmp_path: Any) -> None:
    """20: what has our number is not ours, and stays open."""
    file = SharedFile(4096)
    number = file.fileno()
    os.close(number)
    other = os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    assert file.fileno() == -1
    file.close()
    del file
    assert os.write(number, b"still open") == 10
    os.close(number)
    os.close(other) if other != number else None


@pytest.mark.parametrize("size", [0, 1, 63, 100_000, (512 << 10) - 1, 512 << 10, (1 << 20) + 17])
@pytest.mark.parametrize("at", [0, 1, 40, 64])
@pytest.mark.usefixtures("_leaves_nothing")
def test_what_is_written_to_a_mailbox(size: int, at: int) -> None:
    """From and to any alignment; what is beside it stays."""
    file = SharedFile((1 << 20) + 4096)
    with memoryview(file) as view:
        view[:] = b"\xa5" * len(view)
        value = Random(size).randbytes(size + 3)[3:]
        file.write(at, memoryview(value))
        assert view[at : at + size] == value
        assert set(view[:at]) | set(view[at + size :]) == {0xA5}
        for wrong in (-1, len(view) - size + 1):
            with pytest.raises(ValueError, match="no room"):
                file.write(wrong, value)


def test_a_class_of_cost_is_beside_the_length(room: Room) -> None:
    key = keys.encode("key")
    room.index.put(key, b"value", room.at, 5, 0, 0.0, 2, 255)
    assert room.index.get(room.slot("key"))[3:] == (5, 0, 0.0, 255)
    assert room.table.saved == 0
    assert room.table.find("key") == b"value"
    assert room.table.saved == pytest.approx(1e-6 * 2 ** (254 / 8))
    with pytest.raises(ValueError, match="no such record"):
        room.index.put(key, 0, room.at, 1 << 40, 0, 0.0, 4)
