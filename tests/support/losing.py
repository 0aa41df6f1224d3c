"""Memories with chosen pages lost, and touches that go around the library."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from mvolatile import VolatileMemory, testing
from support.libc import PAGE

__all__ = ["extents_of", "lossy", "page_bytes", "raw_read", "stamped"]


def page_bytes(page: int, round: int = 0) -> bytes:
    """What a stamped page holds: its number and the round, to its last byte."""
    return (page.to_bytes(4, "little") + round.to_bytes(4, "little")) * (PAGE // 8)


def stamped(pages: int, *, name: str | None = None, huge: bool = True) -> VolatileMemory:
    """A memory of so many pages, each with its stamp, volatile now."""
    memory = VolatileMemory(pages * PAGE, name, huge=huge)
    memory.write(b"".join(map(page_bytes, range(pages))))
    return memory


def extents_of(pages: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """The byte ranges ``(offset, length)`` of these pages, neighbours joined."""
    found: list[tuple[int, int]] = []
    for page in sorted(pages):
        if found and sum(found[-1]) == page * PAGE:
            found[-1] = (found[-1][0], found[-1][1] + PAGE)
        else:
            found.append((page * PAGE, PAGE))
    return tuple(found)


def lossy(pages: int = 16, lost: Iterable[int] = (1, 2), name: str | None = "photo") -> VolatileMemory:
    """A stamped memory whose pages `lost` are purged, which the library does not know yet."""
    memory = stamped(pages, name=name)
    wanted = extents_of(lost)
    assert testing.purge(memory, wanted) == sum(length for _, length in wanted)
    return memory


def raw_read(memory: VolatileMemory, page: int, length: int = 8) -> bytes:
    """Touch the memory as foreign code would."""
    return ctypes.string_at(memory.address + page * PAGE, length)
