"""All regions of a store by number, and what they take: bytes of values, and overhead."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from ... import _core
from ..._core import Lookup, close_and_keep, give_back_kept
from ...memory import VolatileMemory
from .large import LargeValue
from .segment import Segment

__all__ = ["SPARE", "Region", "Regions"]

Region: TypeAlias = Segment | LargeValue

SPARE = 2
"""How many emptied segments' memories are kept: a full cache fills one for each that it empties, and memory fresh from
the kernel costs ten times as much as the copy into it. They stay volatile, so the kernel may take them.
"""


class Regions(dict[int, Region]):
    """In the order in which they were made. `lookup` has what readers use, a table for each number; and it counts the
    bytes of values and the overhead of all.
    """

    __slots__ = ("_numbers", "leaving", "lookup", "mapped", "new_memory", "spare")

    def __init__(self, new_memory: Callable[[int], VolatileMemory], lookup: Lookup) -> None:
        super().__init__()
        self.lookup = lookup
        self.leaving: weakref.WeakSet[VolatileMemory] = (
            weakref.WeakSet()
        )  # given up, and held by arrays still
        self.spare: list[VolatileMemory] = []
        self.new_memory = new_memory
        self.mapped = 0  # bytes of memory of those there are
        self._numbers = count(1)

    def next_number(self) -> int:
        """For a region to be made."""
        return next(self._numbers)

    def memory(self, nbytes: int) -> VolatileMemory:
        """For a segment."""
        while self.spare:
            memory = self.spare.pop()
            if nbytes <= memory.nbytes <= 2 * nbytes:
                return memory
        return self.new_memory(nbytes)

    def register(self, region: Region) -> None:
        """Have readers find it."""
        self[region.number] = region
        self.lookup.tables[region.number] = region.table

    def enter(self, region: Region) -> None:
        """Have readers find it, and count it."""
        self.register(region)
        self.mapped += region.memory.nbytes
        self.lookup.nbytes += region.used
        self.lookup.overhead += region.overhead

    def emptied(self, segment: Segment, slot: int) -> None:
        """All values up to `slot` were moved or given up: they count no more, though their pages stay until all are."""
        if segment.number in self:
            lookup, table, before = self.lookup, segment.table, segment.emptied
            at, n = table.bounds(slot)
            if at + n > before:
                segment.emptied = at + n
                lookup.nbytes -= at + n - before
            overhead = table.overhead * (slot + 1) // len(segment.keys)
            if overhead > (before := segment.emptied_overhead):
                segment.emptied_overhead = overhead
                lookup.overhead -= overhead - before

    def retire(self, region: Region) -> bool:
        """Give its memory back; arrays over it keep theirs until they die. False if that was done."""
        if self.pop(region.number, None) is None:
            return False
        region.gone = True
        self.mapped -= region.memory.nbytes
        if _core.pins(region.memory):
            self.leaving.add(region.memory)
        self.lookup.tables.pop(region.number, None)
        self.lookup.nbytes -= region.used - region.emptied
        self.lookup.overhead -= region.overhead - region.emptied_overhead
        if isinstance(region, Segment) and not region.is_open and len(self.spare) < SPARE:
            memory = region.let_go()
            if memory is not None:
                self.spare.append(memory)
        elif isinstance(region, LargeValue):
            close_and_keep(region.memory)  # for the next large value; not if somebody holds or reads it
        return True

    @property
    def held(self) -> int:
        """Bytes of memory that it has, with what was given up and is not gone yet."""
        return self.mapped + self.spare_bytes + sum(memory.nbytes for memory in self.leaving)

    @property
    def spare_bytes(self) -> int:
        """Of emptied segments' memories that are kept."""
        return sum(memory.nbytes for memory in self.spare)

    def recount(self) -> None:
        """What they take, after a change that was cut short."""
        self.mapped = sum(region.memory.nbytes for region in self.values())
        self.lookup.nbytes = sum(region.used - region.emptied for region in self.values())
        self.lookup.overhead = sum(region.overhead - region.emptied_overhead for region in self.values())

    def clear(self) -> None:
        """There are none."""
        self.lookup.tables.clear()
        super().clear()
        self.spare.clear()
        give_back_kept()
        self.mapped = self.lookup.nbytes = self.lookup.overhead = 0
