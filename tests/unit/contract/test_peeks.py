"""Peeks: reading without a hold, and learning on leaving whether what was read was whole."""

from __future__ import annotations

import itertools
import os
import threading
import time
import zlib
from collections.abc import Callable

import pytest

from mvolatile import Overwritten, Purged, VolatileMemory, _core
from support.memories import HUGE, LAYOUTS, PAGE, every_layout, filled, lose, pattern
from support.tiers import exact, loses


@every_layout
def test_a_whole_memory(layout: str) -> None:
    with filled(layout) as memory:
        for _ in range(3):
            with memory.peek() as view:
                assert view.readonly
                assert bytes(view) == pattern(memory.nbytes)
        assert memory.generation == 0
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


def test_before_anything_was_written() -> None:
    for options in LAYOUTS.values():
        with VolatileMemory(**options) as memory, memory.peek() as view:
            assert not any(view)


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        ((), 0, 9 * PAGE),
        ((PAGE,), PAGE, 9 * PAGE),
        ((PAGE, 10), PAGE, PAGE + 10),
        ((PAGE, None), PAGE, 9 * PAGE),
        ((9 * PAGE,), 9 * PAGE, 9 * PAGE),
        ((5, 0), 5, 5),
    ],
)
def test_a_window(arguments: tuple[int, ...], start: int, end: int) -> None:
    with filled("pooled") as memory, memory.peek(*arguments) as view:
        assert bytes(view) == pattern(memory.nbytes)[start:end]


def test_the_view_dies_with_the_block() -> None:
    with filled("pooled") as memory:
        peek = memory.peek()
        with peek as view:
            assert view[0]
        with pytest.raises(ValueError, match="released"):
            view[0]
        with pytest.raises(TypeError, match="bytes-like"):
            memoryview(peek)  # type: ignore[arg-type]


def test_a_peek_may_be_entered_again_but_not_twice_at_once() -> None:
    with filled("pooled") as memory:
        peek = memory.peek()
        for _ in range(3):
            with peek as view:
                assert view[0] == pattern(1)[0]
                with pytest.raises(RuntimeError, match="entered already"):
                    peek.__enter__()
        with pytest.raises(RuntimeError, match="not entered"):
            peek.__exit__(None, None, None)


def test_nested_peeks() -> None:
    with filled("pooled") as memory, memory.peek() as one, memory.peek(PAGE) as two, memory.pin() as three:
        assert one[PAGE] == two[0] == three[PAGE]


@exact
def test_no_hold() -> None:
    with filled("pooled") as memory, memory.peek():
        assert _core.pins(memory) == 0
        assert _core.is_volatile(memory)


# ---- losses


@every_layout
@loses
def test_a_loss_before_it(layout: str) -> None:
    with filled(layout) as memory:
        lose(memory)
        for _ in range(2):  # unknown, then known
            with pytest.raises(Purged) as lost, memory.peek() as view:
                bytes(view)
            assert lost.value.extents == ((0, memory.nbytes),)
            assert lost.value.generation == memory.generation == 1
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)


@every_layout
@exact
@pytest.mark.parametrize(
    "read",
    [
        pytest.param(bytes, id="bytes"),
        pytest.param(zlib.crc32, id="crc32"),
        pytest.param(sum, id="sum"),
        pytest.param(lambda view: hash(view), id="hash"),
        pytest.param(lambda view: view.tolist(), id="tolist"),
        pytest.param(lambda view: view == bytes(view.nbytes), id="compare"),
        pytest.param(lambda view: bytes(view[::512]), id="steps"),
    ],
)
def test_a_loss_during_it(layout: str, read: Callable[[memoryview], object]) -> None:
    with filled(layout) as memory:
        with pytest.raises(Purged) as lost, memory.peek() as view:
            assert view[0] == pattern(1)[0]
            lose(memory)
            read(view)
        assert lost.value.extents == ((0, memory.nbytes),)
        assert _core.is_valid(memory)


@exact
def test_numpy_reads_during_a_loss() -> None:
    numpy = pytest.importorskip("numpy")
    with filled("base") as memory:
        with pytest.raises(Purged), memory.peek() as view:
            array = numpy.frombuffer(view, numpy.uint8)
            lose(memory, [(HUGE // 2, PAGE)])
            array.sum()
            del array
        assert memory.purged() == ((HUGE // 2, PAGE),)
        assert _core.pins(memory) == 0


@exact
def test_a_loss_that_was_not_read_is_not_noticed() -> None:
    """A peek answers for what was read, and costs no system call to find out about the rest."""
    with filled("pooled") as memory:
        with memory.peek() as view:
            lose(memory, [(PAGE, PAGE)])
            assert bytes(view[:PAGE]) == pattern(PAGE)
        assert memory.purged() == ((PAGE, PAGE),)


@exact
def test_a_second_peek_reads_what_the_first_repaired() -> None:
    """No trap comes then: the note of the first must tell."""
    with filled("pooled") as memory:
        first, second = memory.peek(), memory.peek()
        lose(memory, [(PAGE, PAGE)])
        one = first.__enter__()
        two = second.__enter__()
        assert bytes(one[PAGE : 2 * PAGE]) == bytes(PAGE)
        assert bytes(two[PAGE : 2 * PAGE]) == bytes(PAGE)
        with pytest.raises(Purged):
            second.__exit__(None, None, None)
        with pytest.raises(Purged):
            first.__exit__(None, None, None)
        with pytest.raises(Purged), memory.peek() as view:
            bytes(view)
        with pytest.raises(Purged):
            memory.read(PAGE, 1)
        assert memory.purged() == ((PAGE, PAGE),)
        assert memory.generation == 1


@exact
def test_lost_and_rebuilt_during_it() -> None:
    """Nothing is missing at the end, yet what was read is of two times."""
    with filled("pooled") as memory:
        with pytest.raises(Overwritten) as mixed, memory.peek() as view:
            before = bytes(view[:PAGE])
            lose(memory)
            memory.write(pattern(memory.nbytes, 1))
            after = bytes(view[PAGE:])
        assert before == pattern(PAGE)
        assert after == pattern(memory.nbytes, 1)[PAGE:]
        assert not isinstance(mixed.value, Purged)
        with memory.peek() as view:
            assert bytes(view) == pattern(memory.nbytes, 1)


@exact
def test_zeros_accepted_during_it() -> None:
    with filled("pooled") as memory:
        with pytest.raises(Overwritten), memory.peek() as view:
            assert view[0] == pattern(1)[0]
            lose(memory)
            with memory.pin(on_purge="zero"):
                pass
            assert view[PAGE] == 0
        with memory.peek() as view:
            assert bytes(view) == bytes(memory.nbytes)


@exact
def test_a_write_pin_inside_it() -> None:
    with filled("pooled") as memory:
        with pytest.raises(Overwritten), memory.peek() as view:
            assert view[0] == pattern(1)[0]
            with memory.pin(write=True) as writable:
                writable[0] = 0
        with pytest.raises(Overwritten), memory.peek():
            memory.write(b"x", 5 * PAGE)
        assert memory.generation == 0


def test_another_threads_write_pin_around_it() -> None:
    with filled("pooled") as memory:
        inside, leave = threading.Event(), threading.Event()

        def write() -> None:
            with memory.pin(write=True):
                inside.set()
                leave.wait(200)

        writer = threading.Thread(target=write)
        writer.start()
        assert inside.wait(200)
        with pytest.raises(Overwritten), memory.peek() as view:
            bytes(view)
        leave.set()
        writer.join()
        with memory.peek() as view:
            assert bytes(view) == pattern(memory.nbytes)


@pytest.mark.parametrize("where", ["inside", "around"])
def test_a_read_pin_does_not_matter(where: str) -> None:
    with filled("pooled") as memory:
        if where == "inside":
            with memory.peek() as view:
                with memory.pin():
                    pass
                assert bytes(view) == pattern(memory.nbytes)
        else:
            with memory.pin(), memory.peek() as view:
                assert bytes(view) == pattern(memory.nbytes)


@every_layout
@loses
def test_a_loss_outside_of_the_window(layout: str) -> None:
    with filled(layout, huge=False) as memory:
        data = pattern(memory.nbytes)
        lose(memory, [(2 * PAGE, PAGE)])
        for _ in range(2):
            with memory.peek(0, 2 * PAGE) as view:
                assert bytes(view) == data[: 2 * PAGE]
            with memory.peek(3 * PAGE) as view:
                assert bytes(view) == data[3 * PAGE :]
            with pytest.raises(Purged), memory.peek(2 * PAGE - 1, 2) as view:
                bytes(view)
        assert memory.purged() == ((2 * PAGE, PAGE),)


@exact
def test_a_loss_outside_of_the_window_during_it() -> None:
    """Unknown, it does not matter. One that is found meanwhile cannot be told from a rebuild: read again."""
    with filled("pooled") as memory:
        with memory.peek(0, PAGE) as view:
            lose(memory, [(2 * PAGE, PAGE)])
            assert bytes(view) == pattern(PAGE)
        with pytest.raises(Overwritten), memory.peek(0, PAGE) as view:
            assert memory.purged() == ((2 * PAGE, PAGE),)
        with memory.peek(0, PAGE) as view:
            assert bytes(view) == pattern(PAGE)
        assert memory.generation == 1


# ---- exceptions in the body


@exact
def test_an_exception_caused_by_zeros_becomes_purged() -> None:
    """The body failed over data that was not whole: that is what must be said, with its own error as context."""
    with filled("pooled") as memory:
        with pytest.raises(Purged) as lost, memory.peek() as view:
            lose(memory)
            1 / view[0]
        assert isinstance(lost.value.__context__, ZeroDivisionError)


def test_an_exception_over_whole_data_passes() -> None:
    with filled("pooled") as memory:
        with pytest.raises(IndexError), memory.peek() as view:
            view[memory.nbytes]
        with pytest.raises(ZeroDivisionError), memory.peek() as view:
            1 / (view[0] - pattern(1)[0])
        with memory.peek() as view:
            assert bytes(view) == pattern(memory.nbytes)
        assert _core.pins(memory) == 0


@exact
def test_a_system_call_that_meets_a_lost_page() -> None:
    """It answers EFAULT and does not trap; that must come out as a loss."""
    reading, writing = os.pipe()
    try:
        with filled("pooled") as memory:
            with memory.peek(0, PAGE) as view:
                assert os.write(writing, view) == PAGE
            assert os.read(reading, PAGE) == pattern(PAGE)
            with pytest.raises(Purged) as lost, memory.peek(0, PAGE) as view:
                lose(memory, [(0, PAGE)])
                os.write(writing, view)
            assert isinstance(lost.value.__context__, OSError)
            assert lost.value.extents == ((0, PAGE),)
    finally:
        os.close(reading)
        os.close(writing)


def test_efault_of_another_making_passes() -> None:
    with filled("pooled") as memory:
        with pytest.raises(OSError, match="mine"), memory.peek():
            raise OSError(14, "mine")
        assert memory.purged() == ()


# ---- threads


@loses
def test_peeks_pins_and_purges_of_many_threads() -> None:
    """Whatever is returned without an exception is one of the two whole contents."""
    size = 4 * PAGE
    contents = [bytes([value]) * size for value in (1, 2)]
    with VolatileMemory(size) as memory:
        memory.write(contents[0])
        wrong: list[object] = []
        done = threading.Event()
        counts = {"whole": 0, "purged": 0, "overwritten": 0}

        def peek() -> None:
            while not done.is_set():
                try:
                    with memory.peek() as view:
                        found = bytes(view)
                except Overwritten:
                    counts["overwritten"] += 1
                except Purged:
                    counts["purged"] += 1
                else:
                    counts["whole"] += 1
                    if found not in contents:
                        wrong.append(found[::PAGE])

        def rebuild(view: memoryview, extents: object) -> None:
            view[:] = contents[1]

        def write() -> None:
            for round_ in itertools.count():
                with memory.pin(write=True, on_purge=rebuild) as view:
                    view[:] = contents[round_ % 2]
                if round_ >= 1500:
                    if counts["whole"]:
                        break
                    time.sleep(0.001)  # a moment without a writer

        def purge() -> None:
            while not done.is_set():
                try:
                    memory.purge()
                except BufferError:
                    continue

        threads = [threading.Thread(target=target) for target in (peek, peek, purge)]
        writer = threading.Thread(target=write)
        for thread in (*threads, writer):
            thread.start()
        writer.join()
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert _core.pins(memory) == 0
        assert _core.is_valid(memory)
