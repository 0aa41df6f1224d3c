"""What this process holds: `status()`."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core
from .memory import VolatileMemory, live_memories

__all__ = ["MemoryStatus", "Status", "status"]


@dataclass(frozen=True)
class MemoryStatus:
    """The memories of one name, summed; sizes in bytes.

    `resident` is None if this process may not read its own ``/proc/self/pagemap``, because there is no ``/proc`` or it
    is a daemon that has changed its user.
    """

    name: str
    memories: int
    nbytes: int
    volatile: int
    resident: int | None
    lost: int
    pinned: int


@dataclass(frozen=True)
class Status:
    """All volatile memory of this process, by name; sizes in bytes. `raw`: marked with `mvolatile()`."""

    tier: str
    memories: tuple[MemoryStatus, ...]
    raw: int

    @property
    def nbytes(self) -> int:
        """Address space of all memories."""
        return sum(memory.nbytes for memory in self.memories)

    @property
    def volatile(self) -> int:
        """Bytes that the kernel may take now."""
        return sum(memory.volatile for memory in self.memories)

    @property
    def resident(self) -> int | None:
        """Bytes in RAM, or None where that cannot be read (see `MemoryStatus`)."""
        known = [memory.resident for memory in self.memories if memory.resident is not None]
        return sum(known) if len(known) == len(self.memories) else None

    @property
    def lost(self) -> int:
        """Bytes lost and not yet rebuilt."""
        return sum(memory.lost for memory in self.memories)


def _resident(memory: VolatileMemory) -> int | None:
    try:
        return memory.resident()
    except (FileNotFoundError, PermissionError):  # no /proc, or a daemon that has changed its user
        return None


def status() -> Status:
    """A snapshot of every open `VolatileMemory`; it costs a page-table walk over each.

    Other threads go on meanwhile.

    >>> from mvolatile import VolatileMemory
    >>> memory = VolatileMemory(65536, name="frames")
    >>> with memory.pin(write=True) as view:
    ...     [one.pinned for one in status().memories if one.name == "frames"]
    [65536]
    """
    rows: dict[str, list[int]] = {}
    unreadable = False
    _core.mark_lingering()
    for memory in live_memories():
        try:
            lost = sum(length for _, length in memory.purged())
            resident = _resident(memory)
        except ValueError:
            continue  # closed meanwhile
        unreadable = unreadable or resident is None
        row = rows.setdefault(memory.name or "unnamed", [0, 0, 0, 0, 0, 0])
        volatile = memory.nbytes if _core.is_volatile(memory) and not _core.refusal(memory) else 0
        pinned = memory.nbytes if _core.pins(memory) else 0
        for i, value in enumerate((1, memory.nbytes, volatile, resident or 0, lost, pinned)):
            row[i] += value
    memories = tuple(
        MemoryStatus(name, count, nbytes, volatile, None if unreadable else resident, lost, pinned)
        for name, (count, nbytes, volatile, resident, lost, pinned) in sorted(rows.items())
    )
    return Status(_core.tier(), memories, _core.raw_volatile_bytes())
