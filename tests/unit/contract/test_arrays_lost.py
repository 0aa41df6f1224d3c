"""VolatileArray: what is lost of it, and its rebuild."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import mvolatile as mv
from mvolatile import Purged, _core, testing
from support.memories import HUGE, PAGE, lose
from support.tiers import loses

from .test_arrays import sample

np = pytest.importorskip("numpy")


def _rows(made: Any, pages: list[int]) -> Any:
    return made.rows(tuple((page * PAGE, PAGE) for page in pages))


def test_rows_cover_the_lost_bytes() -> None:
    with mv.zeros((16, PAGE // 2), "u1") as made:  # two rows a page
        assert _rows(made, []) == ()
        assert _rows(made, [0]) == (slice(0, 2),)
        assert _rows(made, [1, 2]) == (slice(2, 6),)
        assert _rows(made, [1, 3]) == (slice(2, 4), slice(6, 8))
        assert made.rows(((0, 1),)) == (slice(0, 1),)
    with mv.zeros((10, PAGE - 8), "u1") as made:  # rows across pages
        assert _rows(made, [0]) == (slice(0, 2),)
        assert _rows(made, [1]) == (slice(1, 3),)
        assert _rows(made, [0, 1]) == (slice(0, 3),)
        assert _rows(made, [9]) == (slice(9, 10),)
    with mv.zeros((16, PAGE), "u1", order="F") as made:
        assert _rows(made, [3]) == (slice(0, 16),)
        assert _rows(made, []) == ()
    with mv.zeros(()) as made:
        assert made.rows(((0, 8),)) == (slice(0, 1),)


@loses
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_loss_and_its_rebuild(order: Any) -> None:
    source = np.asarray(sample((64, PAGE // 4), "i4"), order=order)
    with mv.array(source) as made:
        lose(made.memory, [(5 * PAGE, 2 * PAGE)])
        assert made.purged() == ((5 * PAGE, 2 * PAGE),)
        with pytest.raises(Purged):
            made.read()
        with pytest.raises(Purged):
            np.asarray(made)
        with pytest.raises(Purged), made.pin():
            pass
        with pytest.raises(Purged), made.peek() as view:
            view.sum()
        calls = []

        def rebuild(array: Any, extents: Any) -> None:
            assert array.shape == source.shape
            assert array.flags.writeable
            calls.append(made.rows(extents))
            for rows in made.rows(extents):
                array[rows] = source[rows]

        with made.pin(on_purge=rebuild) as view:
            assert (view == source).all()
            del view
        assert calls == [(slice(5, 7) if order == "C" else slice(0, 64),)]
        assert (made.read() == source).all()
        assert _core.pins(made.memory) == 0


@loses
def test_fill_of_an_array() -> None:
    source = sample((3, PAGE), "u1")
    with mv.array(source, fill="zero") as made:
        lose(made.memory, [(PAGE, PAGE)])
        assert made.read().sum() == source[[0, 2]].sum()

    def rebuild(array: Any, extents: Any) -> None:
        array[...] = source

    with mv.array(source, fill=rebuild) as made:
        lose(made.memory)
        assert (made.read() == source).all()
        lose(made.memory)
        assert (np.asarray(made) == source).all()
    with pytest.raises(ValueError, match="fill must be"):
        mv.zeros(3, fill="never")


def test_a_dropped_array_gives_its_memory_back_at_once() -> None:
    """Also one with a `fill` of its own, without waiting for the garbage collector."""

    def rebuild(array: Any, extents: Any) -> None:
        array[...] = 1

    for fill in ("zero", rebuild):
        gc.disable()
        try:
            made = mv.array(sample((8,), "i4"), fill=fill)
            memory = weakref.ref(made.memory)
            del made
            assert memory() is None
        finally:
            gc.enable()


@loses
def test_a_write_settles_a_loss() -> None:
    with mv.array(sample((3, PAGE), "u1")) as made:
        lose(made.memory)
        made.write(4)
        assert (made.read() == 4).all()
        assert made.purged() == ()


@loses
def test_a_large_array_and_testing_purge() -> None:
    source = np.arange(HUGE // 4, dtype="i8")
    with mv.array(source) as made:
        while made.memory.resident():
            assert testing.purge(made)
        with pytest.raises(Purged) as lost:
            made.read()
        assert lost.value.nbytes == source.nbytes
    with mv.array(source, huge=False) as made:
        assert testing.purge(made, [(3 * PAGE, PAGE)]) == PAGE
        assert made.purged() == ((3 * PAGE, PAGE),)


@loses
def test_reductions_inside_a_peek_that_loses() -> None:
    source = sample((200, 512), "f8")
    with mv.array(source) as made:
        if mv.features().can_trap:
            with pytest.raises(Purged), made.peek() as view:
                lose(made.memory)
                view.sum(axis=0).mean()
                del view
        else:
            lose(made.memory)
        assert made.purged() == ((0, source.nbytes),)
