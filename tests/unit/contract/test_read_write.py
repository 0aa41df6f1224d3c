"""read, readinto, write: copies, without a view."""

from __future__ import annotations

import array
import threading
from typing import Any

import pytest

from mvolatile import Overwritten, Purged, VolatileMemory, _core
from support.memories import HUGE, LAYOUTS, PAGE, every_layout, filled, lose, pattern
from support.tiers import loses


@every_layout
def test_round_trip(layout: str) -> None:
    with filled(layout) as memory:
        data = pattern(memory.nbytes)
        assert memory.read() == memory.read(0) == data
        assert memory.read(5, 10) == data[5:15]
        assert memory.read(PAGE - 3, 7) == data[PAGE - 3 : PAGE + 4]
        assert memory.read(memory.nbytes - 1) == data[-1:]
        assert memory.read(memory.nbytes) == b""
        assert memory.read(7, 0) == b""
        assert memory.read(7, None) == data[7:]
        buffer = bytearray(50)
        assert memory.readinto(buffer, 3 * PAGE - 20) == 50
        assert buffer == data[3 * PAGE - 20 : 3 * PAGE + 30]
        assert memory.readinto(bytearray(), memory.nbytes) == 0


@every_layout
def test_writes_land_where_they_should(layout: str) -> None:
    with VolatileMemory(**LAYOUTS[layout]) as memory:
        wanted = bytearray(memory.nbytes)
        for offset, data in (
            (0, b"begin"),
            (PAGE - 2, b"over a page's edge"),
            (memory.nbytes - 3, b"end"),
            (2 * PAGE, b""),
        ):
            assert memory.write(data, offset) == len(data)
            wanted[offset : offset + len(data)] = data
        assert memory.read(0) == wanted
        assert _core.is_valid(memory)


def test_writing_nothing_writes_nothing() -> None:
    """The page it points at was never written, so it is never lost."""
    for nbytes, offset in ((2, 1), (PAGE, 0), (PAGE, 7), (3 * PAGE, PAGE + 1)):
        with VolatileMemory(nbytes) as memory:
            assert memory.write(b"", offset) == 0
            assert memory.purged() == ()
            memory.purge()
            assert memory.purged() == ()
            assert memory.read(0) == bytes(nbytes)


@pytest.mark.parametrize(
    "arguments",
    [
        (-1,),
        (9 * PAGE + 1,),
        (0, 9 * PAGE + 1),
        (9 * PAGE, 1),
        (5, -1),
        (2**62, 2**62),
        (1, 2**63 - 2),
        (0, 2**63 - 1),
        (0, -(2**63)),
        (2**63 - 1,),
    ],
)
def test_a_window_outside(arguments: tuple[int, ...]) -> None:
    with filled("pooled") as memory:
        with pytest.raises(ValueError, match="not within"):
            memory.read(*arguments)
        with pytest.raises(ValueError, match="not within"), memory.peek(*arguments):
            pass
        assert _core.pins(memory) == 0


def test_a_buffer_that_does_not_fit() -> None:
    with filled("pooled") as memory:
        for offset, size in ((0, 9 * PAGE + 1), (9 * PAGE, 1), (-1, 1), (2**62, 1)):
            with pytest.raises(ValueError, match="not within"):
                memory.write(bytes(size), offset)
            with pytest.raises(ValueError, match="not within"):
                memory.readinto(bytearray(size), offset)
        assert memory.read(0) == pattern(memory.nbytes)


def test_wrong_arguments() -> None:
    with filled("pooled") as memory:
        calls: list[tuple[Any, tuple[Any, ...]]] = [
            (memory.read, (0, 1, 2)),
            (memory.read, ("0",)),
            (memory.read, (1.0,)),
            (memory.write, ()),
            (memory.write, ("text",)),
            (memory.write, (7,)),
            (memory.readinto, (b"constant",)),
            (memory.readinto, (bytearray(1), "0")),
            (memory.peek, (0, 1, 2)),
        ]
        for call, arguments in calls:
            with pytest.raises((TypeError, BufferError)):
                call(*arguments)
        with pytest.raises(OverflowError):
            memory.read(2**64)


@pytest.mark.parametrize(
    "data", [array.array("I", [1, 2, 3]), memoryview(b"abcdef"), bytearray(b"x")], ids=type
)
def test_any_contiguous_buffer(data: Any) -> None:
    with VolatileMemory(PAGE) as memory:
        size = memoryview(data).nbytes
        assert memory.write(data, 8) == size
        assert memory.read(8, size) == bytes(data)


def test_readinto_another_kind_of_buffer() -> None:
    with filled("pooled") as memory:
        target = array.array("I", [0] * 4)
        assert memory.readinto(target, 1) == 16
        assert target.tobytes() == pattern(PAGE)[1:17]


def test_a_buffer_with_holes_is_refused() -> None:
    with filled("pooled") as memory:
        with pytest.raises(BufferError):
            memory.write(memoryview(b"abcdef")[::2])


@every_layout
@loses
def test_a_loss_elsewhere_does_not_matter(layout: str) -> None:
    with filled(layout, huge=False) as memory:
        data = pattern(memory.nbytes)
        lose(memory, [(2 * PAGE, PAGE)])
        for _ in range(2):
            assert memory.read(0, 2 * PAGE) == data[: 2 * PAGE]
            assert memory.read(3 * PAGE) == data[3 * PAGE :]
            buffer = bytearray(PAGE)
            assert memory.readinto(buffer, 4 * PAGE) == PAGE
            assert buffer == data[4 * PAGE : 5 * PAGE]
        assert memory.write(b"new", 5 * PAGE) == 3
        for offset, n in ((2 * PAGE, 1), (2 * PAGE - 1, 2), (3 * PAGE - 1, 1), (0, memory.nbytes)):
            with pytest.raises(Purged) as lost:
                memory.read(offset, n)
            assert lost.value.extents == ((2 * PAGE, PAGE),)
            with pytest.raises(Purged):
                memory.readinto(bytearray(n), offset)
        assert memory.read(5 * PAGE, 4) == b"new" + data[5 * PAGE + 3 : 5 * PAGE + 4]
        assert _core.pins(memory) == 0


@every_layout
@loses
def test_overwritten_bytes_are_no_longer_lost(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory)
        memory.write(pattern(memory.nbytes, 1))
        assert memory.read(0) == pattern(memory.nbytes, 1)
        with memory.pin() as view:
            assert bytes(view) == pattern(memory.nbytes, 1)


@loses
def test_reading_does_not_make_it_stay() -> None:
    with filled("pooled") as memory:
        memory.read(0)
        memory.read(PAGE, PAGE)
        assert _core.is_volatile(memory)
        lose(memory)
        assert memory.purged() == ((0, memory.nbytes),)


@loses
def test_writing_does_not_make_it_stay() -> None:
    for size in (1, PAGE, 3 * PAGE + 5, 9 * PAGE):
        with filled("pooled") as memory:
            memory.write(b"z" * size)
            assert _core.is_volatile(memory)
            lose(memory)
            assert memory.purged() == ((0, memory.nbytes),)


@loses
def test_writing_to_what_is_pinned() -> None:
    with filled("pooled") as memory, memory.pin() as view:
        memory.write(b"under a pin", PAGE)
        assert bytes(view[PAGE : PAGE + 11]) == b"under a pin"
        assert memory.read(PAGE, 11) == b"under a pin"
        assert not _core.is_volatile(memory)


def test_a_read_beside_another_threads_write_pin() -> None:
    """It must not return a mixture: the writer is in the middle of its work."""
    with filled("pooled") as memory:
        inside, leave = threading.Event(), threading.Event()

        def write() -> None:
            with memory.pin(write=True) as view:
                view[0] = 0
                inside.set()
                leave.wait(200)

        writer = threading.Thread(target=write)
        writer.start()
        assert inside.wait(200)
        with pytest.raises(Overwritten) as refused:
            memory.read(0, 10)
        assert not isinstance(refused.value, Purged)
        assert "nothing is lost" in str(refused.value)
        with pytest.raises(Overwritten):
            memory.readinto(bytearray(10))
        leave.set()
        writer.join()
        assert memory.read(0, 1) == b"\0"


def test_ones_own_write_pin_does_not_hinder() -> None:
    with filled("pooled") as memory, memory.pin(write=True) as view:
        view[0] = 5
        assert memory.read(0, 1) == b"\x05"
        view[0] = 6
        assert memory.read(0, 1) == b"\x06"


@pytest.mark.parametrize("size", [64, 5 * PAGE, 200 * PAGE, HUGE + PAGE])
def test_reads_and_writes_of_threads_do_not_mix(size: int) -> None:
    with VolatileMemory(size) as memory:
        memory.write(b"\x01" * size)
        mixed: list[bytes] = []
        done = threading.Event()

        def write() -> None:
            value = 0
            while not done.is_set():
                value = value % 255 + 1
                memory.write(bytes([value]) * size)

        def read() -> None:
            for _ in range(300 if size < HUGE else 30):
                try:
                    found = memory.read(0)
                except Overwritten:
                    continue
                if found.count(found[:1]) != size:
                    mixed.append(found[:1])

        writer = threading.Thread(target=write)
        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in (writer, *readers):
            thread.start()
        for thread in readers:
            thread.join()
        done.set()
        writer.join()
        assert not mixed
        assert _core.is_valid(memory)


def test_a_memory_written_from_itself() -> None:
    """The source is a buffer export, so a pin, of the very memory."""
    with filled("pooled") as memory:
        with memoryview(memory) as view:
            memory.write(view[PAGE : 2 * PAGE], 3 * PAGE)
        assert memory.read(3 * PAGE, PAGE) == pattern(9 * PAGE)[PAGE : 2 * PAGE]
        memory.readinto(memory)
        assert _core.pins(memory) == 0


@every_layout
def test_copies_within_the_memory(layout: str) -> None:
    """As memmove(3): what is read and where it goes may overlap."""
    with filled(layout) as memory:
        wanted = bytearray(pattern(memory.nbytes))
        wanted[PAGE : PAGE + 5000] = bytes(range(250)) * 20
        memory.write(wanted)
        with memory.pin(write=True) as view:
            assert memory.readinto(view[PAGE + 7 : PAGE + 4007], PAGE) == 4000
            wanted[PAGE + 7 : PAGE + 4007] = wanted[PAGE : PAGE + 4000]
            assert view == wanted
            assert memory.write(view[PAGE + 9 : PAGE + 4009], PAGE + 1) == 4000
            wanted[PAGE + 1 : PAGE + 4001] = wanted[PAGE + 9 : PAGE + 4009]
            assert view == wanted
