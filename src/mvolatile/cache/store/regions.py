"""All regions of a store by number, and what they take: bytes of values, and overhead."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

from ..._core import close_and_keep, give_back_kept
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
    """In the order in which they were made. `tables` is what readers have: a table for each number."""

    __slots__ = ("_numbers", "leaving", "nbytes", "new_memory", "overhead", "spare", "tables")

    def __init__(self, new_memory: Callable[[int], VolatileMemory], tables: dict[int, Any]) -> None:
        super().__init__()
        self.tables = tables
        self.nbytes = 0  # of values
        self.overhead = 0
        self.leaving: weakref.WeakSet[VolatileMemory] = (
            weakref.WeakSet()
        )  # given up, and held by arrays still
        self.spare: list[VolatileMemory] = []
        self.new_memory = new_memory
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
        self.tables[region.number] = region.table

    def enter(self, region: Region) -> None:
        """Have readers find it, and count it."""
        self.register(region)
        self.nbytes += region.used
        self.overhead += region.overhead

    def emptied(self, segment: Segment, slot: int) -> None:
        """All values up to `slot` count no more."""
        if segment.number in self:
            before, segment.emptied = segment.emptied, max(segment.emptied, sum(segment.table.bounds(slot)))
            self.nbytes -= segment.emptied - before
            before = segment.emptied_overhead
            segment.emptied_overhead = max(before, segment.overhead * (slot + 1) // len(segment.keys))
            self.overhead -= segment.emptied_overhead - before

    def retire(self, region: Region) -> bool:
        """Give its memory back; arrays over it keep theirs until they die. False if that was done."""
        if self.pop(region.number, None) is None:
            return False
        region.gone = True
        if region.memory._pins:
            self.leaving.add(region.memory)
        self.tables.pop(region.number, None)
        self.nbytes -= region.used - region.emptied
        self.overhead -= region.overhead - region.emptied_overhead
        if isinstance(region, Segment) and not region.is_open and len(self.spare) < SPARE:
            memory = region.let_go()
            if memory is not None:
                self.spare.append(memory)
        elif isinstance(region, LargeValue):
            close_and_keep(region.memory)  # for the next large value; not if somebody holds or reads it
        return True

    def recount(self) -> None:
        """What they take, after a change that was cut short."""
        self.nbytes = sum(region.used - region.emptied for region in self.values())
        self.overhead = sum(region.overhead - region.emptied_overhead for region in self.values())

    def clear(self) -> None:
        """There are none."""
        self.tables.clear()
        super().clear()
        self.spare.clear()
        give_back_kept()
        self.nbytes = self.overhead = 0
