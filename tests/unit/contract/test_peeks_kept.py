"""What outlives the block of a peek, which turns it into a pin; and peeks that are left in no order, or never."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest

from mvolatile import Purged, VolatileMemory, _core
from support.memories import PAGE, filled, lose, page_out, pattern
from support.tiers import exact


@pytest.mark.parametrize("keep", [lambda view: view[10:20], memoryview], ids=["slice", "memoryview"])
def test_a_view_kept_turns_it_into_a_pin(keep: Callable[[memoryview], memoryview]) -> None:
    with filled("pooled") as memory:
        with memory.peek() as view:
            kept = keep(view)
        assert _core.pins(memory) == 1
        with pytest.raises(BufferError):
            memory.purge()
        with pytest.raises(BufferError):
            memory.close()
        assert bytes(kept) in pattern(memory.nbytes)
        kept.release()
        gc.collect()
        assert _core.pins(memory) == 0


def test_an_array_kept_turns_it_into_a_pin() -> None:
    numpy = pytest.importorskip("numpy")
    with filled("pooled") as memory:
        with memory.peek(PAGE) as view:
            array = numpy.frombuffer(view, numpy.uint8)
        assert _core.pins(memory) == 1
        assert array.tobytes() == pattern(memory.nbytes)[PAGE:]
        del array, view
        gc.collect()
        assert _core.pins(memory) == 0


@exact
def test_a_view_kept_of_lost_memory() -> None:
    """The pin finds the loss, also where nobody has read the page."""
    with filled("pooled") as memory:
        kept = []
        with pytest.raises(Purged), memory.peek() as view:
            kept.append(view[:10])
            lose(memory, [(5 * PAGE, PAGE)])
        kept.clear()
        del view
        gc.collect()
        assert _core.pins(memory) == 0
        assert memory.purged() == ((5 * PAGE, PAGE),)


def test_a_peek_that_is_dropped_without_leaving() -> None:
    memory = filled("pooled")
    peek = memory.peek()
    view = peek.__enter__()
    assert view[0]
    view.release()
    del view, peek
    gc.collect()
    assert _core.pins(memory) == 0
    memory.close()


def test_many_peeks_at_once() -> None:
    with filled("pooled") as memory:
        peeks = [memory.peek(i % 5, 10) for i in range(500)]
        views = [peek.__enter__() for peek in peeks]
        assert all(bytes(view) == pattern(PAGE)[i % 5 : i % 5 + 10] for i, view in enumerate(views))
        for peek in reversed(peeks):
            peek.__exit__(None, None, None)
        assert _core.pins(memory) == 0


def test_a_view_kept_of_a_peek_that_is_dropped_is_over_a_pin() -> None:
    """Otherwise the next purge would kill, or zero, whoever has it."""
    with filled("pooled") as memory:
        peek = memory.peek()
        view = peek.__enter__()
        del peek
        assert _core.pins(memory) == 1
        with pytest.raises(BufferError):
            memory.purge()
        page_out(memory.address, memory.nbytes)
        assert bytes(view) == pattern(memory.nbytes)
        view.release()
        assert _core.pins(memory) == 0


@exact
def test_a_loss_in_a_peek_that_is_dropped_is_reported() -> None:
    unraised: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraised.append
    try:
        with filled("pooled") as memory:
            peek = memory.peek()
            view = peek.__enter__()
            lose(memory, [(0, PAGE)])
            assert not any(view[:PAGE])
            del peek
            assert [type(one.exc_value) for one in unraised] == [Purged]
            assert unraised[0].exc_value.extents == ((0, PAGE),)
            unraised.clear()
            assert bytes(view[PAGE:]) == pattern(memory.nbytes)[PAGE:]
            view.release()
    finally:
        sys.unraisablehook = hook


def test_a_peek_that_is_dropped_leaves_the_exception_in_flight_alone() -> None:
    class Holder:
        def __init__(self, memory: VolatileMemory) -> None:
            self.peek = memory.peek()
            self.view = self.peek.__enter__()

    with filled("pooled") as memory:
        kept = []

        def fail() -> None:
            holder = Holder(memory)
            kept.append(holder.view)
            del holder.view
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            fail()
        gc.collect()
        assert _core.pins(memory) == 1
        kept.pop().release()


class Owner(VolatileMemory):
    """A memory that refers to what was made of it."""

    kept: object


@pytest.mark.parametrize(
    "make",
    [
        lambda memory: memory.pin().__enter__(),
        lambda memory: (pin := memory.pin(), pin.__enter__()),
        lambda memory: _core.hold(memory, True),
        lambda memory: memory.peek().__enter__(),
        lambda memory: (peek := memory.peek(), peek.__enter__()),
        memoryview,
    ],
    ids=["view of a pin", "pin", "hold", "view of a peek", "peek", "export"],
)
def test_a_cycle_through_its_memory_is_collected(make: Callable[[VolatileMemory], object]) -> None:
    memory = Owner(9 * PAGE)
    memory.write(pattern(9 * PAGE))
    memory.kept = make(memory)
    gone = weakref.ref(memory)
    del memory
    gc.collect()
    assert gone() is None


# ---- exceptions that end the block


@exact
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_error_passes(error: type[BaseException]) -> None:
    with filled("pooled") as memory:
        with pytest.raises(error) as passed, memory.peek() as view:
            lose(memory, [(0, PAGE)])
            assert not any(view[:PAGE])
            raise error
        assert passed.value.__context__ is None
        assert memory.purged() == ((0, PAGE),)
        with pytest.raises(Purged):
            memory.read(0)


@exact
def test_a_generator_over_a_peek_can_be_closed() -> None:
    def pages(memory: VolatileMemory) -> Generator[bytes]:
        with memory.peek() as view:
            for offset in range(0, memory.nbytes, PAGE):
                yield bytes(view[offset : offset + PAGE])

    with filled("pooled") as memory:
        generator = pages(memory)
        next(generator)
        lose(memory, [(PAGE, PAGE)])
        next(generator)
        generator.close()


@exact
def test_an_error_is_the_context_of_the_loss() -> None:
    """It may come from the zeros that were read."""
    with filled("pooled") as memory:
        with pytest.raises(Purged) as lost, memory.peek() as view:
            lose(memory, [(0, PAGE)])
            raise ZeroDivisionError(1 // view[0])
        assert isinstance(lost.value.__context__, ZeroDivisionError)
