"""What the rebuilding thread, and another, does with a memory while it is rebuilt."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import Purged, VolatileMemory, _core
from mvolatile.errors import Extents
from support.memories import PAGE, filled, lose, pattern
from support.tiers import loses


@loses
@pytest.mark.parametrize("fill", ["raise", "the same"])
def test_a_write_pin_inside_a_rebuild_holds_and_settles_nothing(fill: str) -> None:
    """A program that fills its memory through a pin of its own can be the rebuild."""
    data, calls = pattern(9 * PAGE), 0

    def rebuild(view: memoryview, extents: Extents) -> None:
        nonlocal calls
        calls += 1
        with memory.pin(write=True) as own:
            assert bytes(own[PAGE:]) == data[PAGE:]
            own[:] = data

    with filled("pooled", fill=rebuild if fill == "the same" else "raise") as memory:
        lose(memory, [(0, PAGE)])
        with memory.pin(on_purge=rebuild) as view:
            assert bytes(view) == data
        assert (calls, _core.pins(memory), memory.purged(), memory.generation) == (1, 0, (), 1)


@loses
@pytest.mark.parametrize(
    "read",
    [
        lambda memory: memory.read(0, 10),
        lambda memory: memory.readinto(bytearray(10)),
        bytes,
        lambda memory: memory.pin().__enter__(),
        lambda memory: memory.peek().__enter__(),
    ],
    ids=["read", "readinto", "export", "pin", "peek"],
)
def test_what_is_not_rebuilt_yet_cannot_be_read(read: Callable[[VolatileMemory], object]) -> None:
    """Zeros would go into what is being made, and the outer pin would call it whole."""
    refused: list[type[BaseException]] = []

    def rebuild(view: memoryview, extents: Extents) -> None:
        assert memory.read(PAGE, 10) == pattern(9 * PAGE)[PAGE : PAGE + 10], "what is whole can"
        with pytest.raises(Purged) as lost:
            read(memory)
        refused.append(lost.type)
        view[:PAGE] = pattern(PAGE)

    with filled("pooled", fill=rebuild) as memory:
        lose(memory, [(0, PAGE)])
        assert memory.read(0) == pattern(9 * PAGE)
        assert refused == [Purged]


@loses
def test_a_rebuild_by_another_thread_is_none_of_ours() -> None:
    """Only the thread that rebuilds is given the memory as it is."""
    data = pattern(9 * PAGE)
    found: list[type[BaseException]] = []

    def other() -> None:
        with pytest.raises(Purged) as lost, memory.pin(write=True):
            pass
        found.append(lost.type)

    def rebuild(view: memoryview, extents: Extents) -> None:
        helper = threading.Thread(target=other)
        helper.start()
        helper.join()
        view[:] = data

    with filled("pooled") as memory:
        lose(memory)
        with memory.pin(on_purge=rebuild) as view:
            assert bytes(view) == data
        assert found == [Purged]


class RebuiltMeanwhile(VolatileMemory):
    """Between the core's look at a pin's loss and ours, another thread rebuilds."""

    __slots__ = ()

    def _settle(self, *arguments: Any) -> None:
        with self._hold_to_write() as view:
            view[:] = pattern(self.nbytes, 1)
        _core.forgive(self)
        super()._settle(*arguments)

    def _hold_to_write(self) -> memoryview:
        return memoryview(_core.hold(self, True))


@loses
def test_what_another_thread_has_rebuilt_meanwhile_is_whole() -> None:
    """A pin holds it then: it has nothing to raise, and `Overwritten` is for what was read without one."""
    with RebuiltMeanwhile(9 * PAGE) as memory:
        memory.write(pattern(memory.nbytes))
        lose(memory)
        with memory.pin() as view:
            assert bytes(view) == pattern(memory.nbytes, 1)


@loses
def test_what_a_rebuild_keeps_of_its_view_holds_the_memory() -> None:
    """As what is kept of a pin's view does; the rebuild was right all the same. PIL's frombuffer() does that."""
    kept: list[pickle.PickleBuffer] = []

    def rebuild(view: memoryview, extents: Extents) -> None:
        view[:] = pattern(9 * PAGE)
        kept.append(pickle.PickleBuffer(view))

    with filled("pooled") as memory:
        lose(memory)
        with memory.pin(on_purge=rebuild) as view:
            assert bytes(view) == pattern(9 * PAGE)
        assert memory.purged() == ()
        assert _core.pins(memory) == 1
        kept.clear()
        gc.collect()
        assert _core.pins(memory) == 0
        lose(memory, [(0, PAGE)])
