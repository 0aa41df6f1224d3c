"""What a process of a memory program can do: one `VolatileMemory`, pinned, peeked at, read, written, forked."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import mvolatile
from conformance.processes import value_of
from mvolatile import _core
from support.libc import MADV_PAGEOUT, PAGE, madvise, states

Outcome = tuple[str, Any]
"""``("whole", values)``, ``("purged", lost extents)``, or ``("refused", name of the exception)``."""


class MemoryCommands:
    """Page numbers are within the memory; the last page is `short` bytes short."""

    def __init__(self) -> None:
        self.pins: list[tuple[Any, memoryview]] = []

    def begin(self, tier: str) -> None:
        os.environ["MVOLATILE_TIER"] = tier
        assert mvolatile.features().tier == tier

    def open(self, pages: int, short: int) -> None:
        self.memory = mvolatile.VolatileMemory(pages * PAGE - short, "conformance")

    def _outcome(self, action: Callable[[], object]) -> Outcome:
        try:
            return "whole", action()
        except mvolatile.Purged as lost:
            return "purged", lost.extents
        except mvolatile.Overwritten:
            return "overwritten", ()
        except BufferError:
            return "refused", "BufferError"

    def pin(self, write: bool, on_purge: str, value: int) -> Outcome:
        """Enter a pin and look at all of it; `on_purge` may be "rebuild": lost bytes become `value`."""
        return self._outcome(partial(self._pin, write, on_purge, value))

    def _pin(self, write: bool, on_purge: str, value: int) -> tuple[int, ...]:
        def rebuild(view: memoryview, extents: tuple[tuple[int, int], ...]) -> None:
            for offset, length in extents:
                view[offset : offset + length] = bytes([value]) * length

        how: Any = rebuild if on_purge == "rebuild" else on_purge
        pin = self.memory.pin(write=write, on_purge=how)
        view = pin.__enter__()
        self.pins.append((pin, view))
        return values(view)

    def unpin(self) -> None:
        pin, view = self.pins.pop()
        del view
        pin.__exit__(None, None, None)

    def store(self, page: int, value: int) -> None:
        """Through the innermost pin."""
        view = self.pins[-1][1][page * PAGE : (page + 1) * PAGE]
        view[:] = bytes([value]) * len(view)

    def peek(self, page: int, length: int) -> Outcome:
        def look() -> tuple[int, ...]:
            with self.memory.peek(*self._window(page, length)) as view:
                return values(view)

        return self._outcome(look)

    def read(self, page: int, length: int) -> Outcome:
        return self._outcome(lambda: values(self.memory.read(*self._window(page, length))))

    def write(self, page: int, length: int, value: int) -> Outcome:
        offset, n = self._window(page, length)
        return self._outcome(lambda: self.memory.write(bytes([value]) * n, offset))

    def pageout(self, pages: tuple[int, ...]) -> tuple[int, ...]:
        """The kernel's own reclaim of these pages; those that were there before and are missing afterwards."""
        before = self._states()
        for page in pages:
            madvise(self.memory.address + page * PAGE, PAGE, MADV_PAGEOUT)
        return self._gone(before)

    def purge(self) -> tuple[Outcome, tuple[int, ...]]:
        """`VolatileMemory.purge`, and which pages went."""
        before = self._states()
        return self._outcome(self.memory.purge), self._gone(before)

    def _states(self) -> list[str]:
        return states(self.memory.address, -(-self.memory.nbytes // PAGE) * PAGE)

    def _gone(self, before: list[str]) -> tuple[int, ...]:
        pairs = enumerate(zip(before, self._states(), strict=True))
        return tuple(page for page, pair in pairs if pair == ("present", "missing"))

    def purged(self) -> tuple[tuple[int, int], ...]:
        return self.memory.purged()

    def generation(self) -> int:
        assert _core.is_valid(self.memory)
        return self.memory.generation

    def close(self) -> Outcome:
        return self._outcome(self.memory.close)

    def _window(self, page: int, length: int) -> tuple[int, int]:
        offset = page * PAGE
        return offset, min(length * PAGE, self.memory.nbytes - offset)


def values(data: bytes | memoryview) -> tuple[int, ...]:
    """What fills each page; -1 for a mixture."""
    return tuple(value_of(bytes(data[at : at + PAGE])) for at in range(0, len(data), PAGE))
