"""What outlives the block of a peek, which turns it into a pin; and peeks that are left in no order, or never."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from mvolatile import Purged
from support.memories import PAGE, filled, lose, pattern
from support.tiers import exact


@pytest.mark.parametrize("keep", [lambda view: view[10:20], memoryview], ids=["slice", "memoryview"])
def test_a_view_kept_turns_it_into_a_pin(keep: Callable[[memoryview], memoryview]) -> None:
    with filled("pooled") as memory:
        with memory.peek() as view:
            kept = keep(view)
        assert memory._pins == 1
        with pytest.raises(BufferError):
            memory.purge()
        with pytest.raises(BufferError):
            memory.close()
        assert bytes(kept) in pattern(memory.nbytes)
        kept.release()
        gc.collect()
        assert memory._pins == 0


def test_an_array_kept_turns_it_into_a_pin() -> None:
    numpy = pytest.importorskip("numpy")
    with filled("pooled") as memory:
        with memory.peek(PAGE) as view:
            array = numpy.frombuffer(view, numpy.uint8)
        assert memory._pins == 1
        assert array.tobytes() == pattern(memory.nbytes)[PAGE:]
        del array, view
        gc.collect()
        assert memory._pins == 0


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
        assert memory._pins == 0
        assert memory.purged() == ((5 * PAGE, PAGE),)


def test_a_peek_that_is_dropped_without_leaving() -> None:
    memory = filled("pooled")
    peek = memory.peek()
    view = peek.__enter__()
    assert view[0]
    view.release()
    del view, peek
    gc.collect()
    assert memory._pins == 0
    memory.close()


def test_many_peeks_at_once() -> None:
    with filled("pooled") as memory:
        peeks = [memory.peek(i % 5, 10) for i in range(500)]
        views = [peek.__enter__() for peek in peeks]
        assert all(bytes(view) == pattern(PAGE)[i % 5 : i % 5 + 10] for i, view in enumerate(views))
        for peek in reversed(peeks):
            peek.__exit__(None, None, None)
        assert memory._pins == 0
