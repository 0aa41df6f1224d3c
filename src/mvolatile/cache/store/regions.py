"""All regions of a store by number, and what they take: bytes of values, and overhead."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from ... import _core
from ..._core import Lookup, SlotTable, close_and_keep, give_back_kept, suspects
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

    __slots__ = ("leaving", "lookup", "mapped", "new_memory", "next_number", "spare")

    def __init__(self, new_memory: Callable[[int], VolatileMemory], lookup: Lookup) -> None:
        super().__init__()
        self.lookup = lookup
        self.leaving: weakref.WeakSet[VolatileMemory] = (
            weakref.WeakSet()
        )  # given up, and held by arrays still
        self.spare: list[VolatileMemory] = []
        self.new_memory = new_memory
        self.mapped = 0  # bytes of memory of those there are
        self.next_number: Callable[[], int] = count(1).__next__  # for a region to be made

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

    def enter(self, region: Region, table: SlotTable | LargeValue) -> None:
        """Have readers find it, by its table, and count it."""
        number, lookup = region.number, self.lookup
        self[number] = region
        lookup.tables[number] = table
        self.mapped += region.memory.nbytes
        lookup.nbytes += region.used
        lookup.overhead += region.overhead

    def suspects(self) -> list[Region]:
        """Those of which the kernel may have taken something.

        It is asked once for many. Of each by itself, 7,000 values of 32 KiB took 15 ms in place of 0.5, after each
        64th of the cache that was stored (`SURVEYS`).
        """
        regions = list(self.values())
        return [regions[number] for number in suspects([region.memory for region in regions])]

    def retire(self, region: Region) -> bool:
        """Give its memory back; arrays over it keep theirs until they die. False if that was done."""
        if self.pop(region.number, None) is None:
            return False
        region.gone = True
        lookup, own = self.lookup, region.memory
        self.mapped -= own.nbytes
        lookup.tables.pop(region.number, None)
        lookup.nbytes -= region.used - region.emptied
        lookup.overhead -= region.overhead - region.emptied_overhead
        if isinstance(region, LargeValue):
            if not close_and_keep(own) and _core.pins(own):  # for the next large value; but somebody holds it
                self.leaving.add(own)
            return True
        if _core.pins(own):
            self.leaving.add(own)
        if not region.is_open and len(self.spare) < SPARE:
            memory = region.let_go()
            if memory is not None:
                self.spare.append(memory)
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
