"""A segment: a region of memory that many small values share.

It is open at first: held by one write pin, filled front to back. Published bytes are never written again, so readers of
an open segment need no lock. Offsets, visits and the fast way to read are in C (`SlotTable`). To seal it is to let the
pin go: it is volatile from then on.
"""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic

from ... import _core
from ..._core import SlotTable
from ...errors import Purged
from ...memory import VolatileMemory
from .locator import SLOTS
from .overhead import OWN_MEMORY
from .published import read_published

__all__ = ["NOBODY", "Segment"]

NOBODY = object()
"""The key of a slot that was never published, or of nothing."""


class Segment:
    """A memory for many values: slot i of `table` has the key ``keys[i]``."""

    __slots__ = (
        "capacity",
        "cost",
        "emptied",
        "emptied_overhead",
        "gone",
        "keys",
        "memory",
        "number",
        "passed",
        "queue",
        "since",
        "size",
        "table",
        "view",
        "visits",
    )

    is_large = False

    def __init__(self, number: int, memory: VolatileMemory, queue: int) -> None:
        self.number = number
        self.queue = queue
        self.since = monotonic()
        self.capacity = memory.nbytes
        self.memory = memory
        self.view: memoryview | None = memoryview(_core.hold(memory, True))
        if _core.is_lossy(memory):
            _core.forgive(memory)  # a former owner's loss
        self.table = SlotTable(self.memory)
        # By slot: how often it was read since it was stored or moved (255: as often, or more), the class of what it
        # took to make, its bytes.
        self.visits, self.cost, self.size = self.table.visits, self.table.cost, self.table.size
        self.keys: list[Hashable] = []
        self.passed = 0  # slots that the evictor has passed over
        self.emptied = 0  # bytes, from the front, that were moved or given up
        self.table.overhead = OWN_MEMORY
        self.emptied_overhead = 0
        self.gone = False

    @property
    def used(self) -> int:
        """Bytes taken, by dead values too."""
        return self.table.used

    @property
    def dead(self) -> int:
        """Bytes of values that were overwritten or deleted."""
        return self.table.dead

    @property
    def overhead(self) -> int:
        """Of it and its entries."""
        return self.table.overhead

    @property
    def is_open(self) -> bool:
        """Whether it is being filled."""
        return self.view is not None

    def has_room(self, nbytes: int) -> bool:
        """Whether a value of so many bytes fits. Not where a forked child did not inherit what was held: all that is
        stored there would count as lost with it.
        """
        if self.view is None or _core.is_lossy(self.memory):
            return False
        return self.table.used + nbytes <= self.capacity and len(self.keys) < SLOTS

    def mend(self) -> None:
        """After an append that was interrupted: its slot was not published, and is nobody's."""
        while len(self.keys) < self.table.count:
            self.keys.append(NOBODY)
        del self.keys[self.table.count :]

    def usual_cost(self) -> float:
        """The mean class of what is known of its values."""
        return self.table.usual_cost()

    def visit(self, slot: int) -> None:
        """It was read."""
        self.table.visit(slot)

    def seal(self) -> None:
        """Let the kernel have it."""
        self.table.close()
        view, self.view = self.view, None
        if view is not None:
            view.release()

    def read(self, slot: int) -> bytes:
        """The bytes of a slot; `Purged` if they were lost, `ValueError` if it is being sealed or emptied now."""
        at, n = self.table.bounds(slot)
        # A forked child may not inherit what is held.
        if self.view is not None and not _core.is_lossy(self.memory):
            return self.view[at : at + n].tobytes()
        try:
            data = read_published(self.memory, at, n)
        except Purged:
            if self.table.has_memory:
                raise
            data = b""
        if not self.table.has_memory:
            raise ValueError("another segment has the memory now")
        return data

    def probe(self, slot: int) -> bytes:
        """As `read`, for the exceptions and the last eight bytes (or all, if fewer): no more than those are copied, but
        where that needs a hold.
        """
        tail = self.table.tail(slot)
        return self.read(slot) if tail is None else tail

    def let_go(self) -> VolatileMemory | None:
        """Its memory, to be filled by another; None if somebody holds it."""
        self.table.let_go()
        return None if _core.pins(self.memory) else self.memory
