"""Whatever reads through a peek's view, C code of others above all: it finishes, and the peek raises."""

from __future__ import annotations

import array
import base64
import hashlib
import io
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.libc import PAGE
from support.losing import extents_of, lossy, page_bytes, stamped

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="a peek is a pin in this tier")

LOST = (1, 2, 9)
READERS: dict[str, Callable[[memoryview], object]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "hash": hash,
    "tobytes": memoryview.tobytes,
    "slice": lambda view: bytes(view[PAGE - 1 : 3 * PAGE : 7]),
    "index": lambda view: [view[i] for i in range(0, len(view), 512)],
    "cast": lambda view: sum(view.cast("Q")),
    "compare": lambda view: view == bytes(len(view)),
    "contains": lambda view: 77 in view.tolist(),
    "join": lambda view: b"".join([b"", view]),
    "int": lambda view: int.from_bytes(view, "little"),
    "crc32": zlib.crc32,
    "adler32": zlib.adler32,
    "compress": zlib.compress,
    "sha256": lambda view: hashlib.sha256(view).digest(),
    "base64": base64.b64encode,
    "struct": lambda view: struct.unpack_from("=16Q", view, 2 * PAGE - 64),
    "array": lambda view: array.array("Q", view.tobytes()),
    "BytesIO": lambda view: io.BytesIO().write(view),
    "pickle": lambda view: pickle.dumps(bytes(view)),
    "sum": lambda view: np.frombuffer(view, np.uint64).sum(),
    "dot": lambda view: np.frombuffer(view, np.uint8).astype(np.float64) @ np.ones(len(view)),
    "mean": lambda view: np.frombuffer(view, np.float32).mean(),
    "sort": lambda view: np.sort(np.frombuffer(view, np.uint16)),
    "any": lambda view: (np.frombuffer(view, np.uint8) == 255).any(),
    "copy": lambda view: np.frombuffer(view, np.uint8).reshape(-1, 64).T.copy(),
}


@pytest.mark.parametrize("reader", READERS)
def test_lost_pages_read_as_zeros_and_are_reported(reader: str) -> None:
    read = READERS[reader]
    with lossy(16, LOST) as memory:
        expected = read(memoryview(b"".join(bytes(PAGE) if p in LOST else page_bytes(p) for p in range(16))))
        with pytest.raises(Purged) as lost:
            with memory.peek() as view:
                found = read(view)
        assert lost.value.extents
        assert set(lost.value.extents) <= {(PAGE, 2 * PAGE), (2 * PAGE, PAGE), (9 * PAGE, PAGE), (PAGE, PAGE)}
        assert np.array_equal(
            np.asarray(found), np.asarray(expected), equal_nan=found is not None and reader == "mean"
        )
        assert memory.purged() == extents_of(LOST), "all of it, once asked"


@pytest.mark.parametrize("reader", READERS)
def test_whole_memory_reads_as_it_is(reader: str) -> None:
    read = READERS[reader]
    with stamped(16) as memory:
        with memory.peek() as view:
            found = read(view)
        expected = read(memoryview(b"".join(map(page_bytes, range(16)))))
        assert np.array_equal(np.asarray(found), np.asarray(expected), equal_nan=reader == "mean")


def test_huge_pages() -> None:
    with VolatileMemory(4 << 20) as memory:
        memory.write(b"\x01" * (4 << 20))
        assert _core.purge(memory, 2 << 20, 2 << 20) == 2 << 20
        with pytest.raises(Purged) as lost:
            with memory.peek() as view:
                total = np.frombuffer(view, np.uint8).sum(dtype=np.uint64)
        assert total == 2 << 20
        assert lost.value.extents == ((2 << 20, 2 << 20),)


# ---- system calls: they answer EFAULT, and never trap


def test_write_of_lost_bytes_raises_purged() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb", 0), lossy(16, [0, 1]) as memory:
        with pytest.raises(Purged) as lost:
            with memory.peek() as view:
                os.write(writing, view)
        assert lost.value.extents == ((0, 2 * PAGE),)
        assert isinstance(lost.value.__context__, OSError)


def test_send_of_lost_bytes_raises_purged() -> None:
    one, other = socket.socketpair()
    with one, other, lossy(16, [0]) as memory:
        with pytest.raises(Purged):
            with memory.peek() as view:
                one.send(view)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)


def test_a_short_write_is_honest() -> None:
    """The kernel writes what is there and says how much; nothing trapped, and what was written is whole."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as sink, os.fdopen(writing, "wb", 0), lossy(16, [3]) as memory:
        with memory.peek() as view:
            count = os.write(writing, view[: 5 * PAGE])
        assert 0 < count <= 3 * PAGE
        assert sink.read(count) == b"".join(map(page_bytes, range(3)))[:count]
        assert memory.purged() == ((3 * PAGE, PAGE),)


def test_sendmsg_and_writev() -> None:
    reading, writing = os.pipe()
    one, other = socket.socketpair()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb", 0), one, other, lossy(16, [0]) as memory:
        calls: list[Callable[[memoryview], int]] = [
            lambda part: os.writev(writing, [part]),
            lambda part: one.sendmsg([part]),
        ]
        for call in calls:
            with pytest.raises(Purged):
                with memory.peek() as view:
                    call(view[:PAGE])


def test_efault_of_something_else_stays_itself() -> None:
    with stamped(16) as memory:
        with pytest.raises(OSError, match="Bad address") as raised:
            with memory.peek():
                raise OSError(14, "Bad address")
        assert not isinstance(raised.value, Purged)


def test_another_error_inside_the_block_of_a_whole_peek_stays_itself() -> None:
    with stamped(16) as memory, pytest.raises(KeyError):
        with memory.peek():
            raise KeyError


def test_reading_a_file_into_a_pinned_memory(tmp_path: object) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as source, os.fdopen(writing, "wb", 0), lossy(16, [0]) as memory:
        os.write(writing, b"y" * PAGE)
        with memory.pin(write=True, on_purge="zero") as view:
            assert source.readinto(view[:PAGE]) == PAGE
        assert memory.read(0, PAGE) == b"y" * PAGE
