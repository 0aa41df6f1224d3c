"""What is in a store: the index, the regions it points into, and the segments that are being filled."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from time import monotonic
from typing import Any, TypeAlias

from ..._core import Lookup
from ...memory import VolatileMemory
from ..ages import Ages
from ..cost import SECONDS, UNKNOWN
from ..departures import Why
from ..queues import FRESH, KEPT
from ..rebuild import Rebuilds
from .large import LargeValue, read_bytes
from .locator import KIND_BITS, NUMBER_SHIFT, region_of, slot_of
from .overhead import of_entry
from .regions import Region, Regions
from .segment import Segment
from .sizes import OWN_MEMORY, OWN_PAGES, PAGE, VALUES, segment_bytes

__all__ = ["DEAR", "FRESH", "KEPT", "NO_CLASS", "Contents", "stores"]

DEAR = 16
"""What is added to the queue of values that are *dear*: their cost is of the class `Store.dear`, or of a higher one.
They share segments of their own, so that the kernel can be kept from them (`keeping.py`). A policy knows nothing of it.
"""
NO_CLASS = 256
"""A class that no cost is of."""

MOSTLY = 2 / 3
"""A segment is compacted when so large a part of it is dead."""

Tell: TypeAlias = Callable[[Hashable, Why], object]

stores: weakref.WeakSet[Contents] = weakref.WeakSet()
"""Every open store; how many there are decides how large first segments are."""


def _nothing(region: Region) -> None:
    """Nobody is to be told."""


class Contents:
    """The half of `Store` that takes values in."""

    def __init__(
        self,
        new_memory: Callable[[int], VolatileMemory] = VolatileMemory,
        lookup: Lookup | None = None,
        most: int | None = None,
    ) -> None:
        self.lookup = Lookup() if lookup is None else lookup
        self.index = self.lookup.index
        self.regions = Regions(new_memory, self.lookup)
        self.next_number = self.regions.next_number
        self.lives, self.emptied = self.lookup.lives, self.lookup.emptied
        self.open: dict[int, Segment] = {}  # by queue, those of dear values apart
        self.dear = NO_CLASS
        self.dropped: deque[list[Any]] = deque()  # [region, next slot, lost]: the index still points there
        self.sparse: deque[list[Any]] = deque()  # [segment, next slot]: its live values are being moved
        self.most = most
        self.purged = 0
        self.lost_seconds = 0.0
        self.evicted = self.expired = 0
        self.ages = Ages()
        self.rebuilds = Rebuilds()
        self.gives_way = True  # what is evicted is so for the kernel's sake: there is no other bound
        self.tell: Tell | None = None  # of each key that leaves
        self.sealed: Callable[[Region], object] = _nothing
        self.retired: Callable[[Region], object] = _nothing
        stores.add(self)

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return self.lookup.nbytes

    @property
    def overhead(self) -> int:
        """Ordinary memory, for what they need beside."""
        return self.lookup.overhead

    @property
    def footprint(self) -> int:
        """All bytes that the store costs, about."""
        return self.lookup.nbytes + self.lookup.overhead

    def segment_bytes(self) -> int:
        """How large the next segment is to be."""
        return segment_bytes(self.lookup.nbytes, self.most, len(stores))

    def is_large(self, nbytes: int) -> bool:
        """Whether a value is to have memory of its own."""
        return nbytes >= OWN_MEMORY or (nbytes >= OWN_PAGES and nbytes * 4 > self.segment_bytes())

    # ---- in

    def put(
        self,
        key: Hashable,
        kind: int,
        data: bytes,
        why: Why | None = "replaced",
        *,
        queue: int = FRESH,
        visits: int = 0,
        cost: int = 0,
    ) -> None:
        """Store bytes of some kind (a number below 16, which is the owner's business), small or large. What the key had
        before leaves for that reason; with None it is the same value.
        """
        if self.is_large(len(data)):
            memory = self.regions.new_memory(len(data))
            memory.write(data)
            self.put_large(
                LargeValue(self.next_number(), key, kind, len(data), memory, read_bytes, queue, cost=cost),
                why,
            )
            return
        self.put_small(key, kind, data, why, queue=queue, visits=visits, cost=cost)

    def put_small(
        self,
        key: Hashable,
        kind: int,
        data: bytes,
        why: Why | None = "replaced",
        *,
        queue: int = FRESH,
        visits: int = 0,
        cost: int = 0,
    ) -> None:
        """Store it in a segment that it shares."""
        old = self._enter(key, kind, data, visits, cost, queue)
        lookup = self.lookup
        if why is not None:
            lookup.stores += 1
        if old is not None:
            self._died(key, old, why)

    def _enter(self, key: Hashable, kind: int, data: bytes, visits: int, cost: int, queue: int) -> int | None:
        """Where the key was before."""
        segment = self.open.get(queue if cost < self.dear else queue + DEAR)
        old = (
            False if segment is None else self.lookup.enter(segment, key, kind, data, visits, cost, of_entry)
        )
        if old is not False:
            return old
        segment = self.segment_for(len(data), queue, cost)
        if len(segment.keys) != segment.table.count:
            segment.mend()
        old = self.lookup.enter(segment, key, kind, data, visits, cost, of_entry)
        if old is False:
            raise AssertionError(f"{len(data)} bytes do not fit into a segment with room")
        return old

    def put_large(self, value: LargeValue, why: Why | None = "replaced") -> None:
        """Store a value that brings its own memory."""
        self.regions.enter(value, value)
        key, index, lookup = value.keys[0], self.index, self.lookup
        old = index.get(key)
        index[key] = value.number << NUMBER_SHIFT | value.kind  # of slot 0
        if why is not None:
            lookup.stores += 1
        if old is not None:
            self._died(key, old, why)
        self.sealed(value)

    def given_back_by(self, key: Hashable) -> int:
        """Bytes that come back at once when `key` gets another value: a large one has memory of its own."""
        locator = self.index.get(key)
        if locator is None:
            return 0
        region = self.regions.get(region_of(locator))
        return region.used if isinstance(region, LargeValue) else 0

    def filling(self, queue: int) -> Segment | None:
        """A segment that is being filled for a queue."""
        return self.open.get(queue) or self.open.get(queue + DEAR)

    def segment_for(self, nbytes: int, queue: int, cost: int = UNKNOWN) -> Segment:
        """An open one with room for so many bytes, for values of such a cost."""
        filled = queue if cost < self.dear else queue + DEAR
        segment = self.open.get(filled)
        if segment is not None:
            if segment.has_room(nbytes):
                return segment
            del self.open[filled]
            self.seal(segment)
        wanted = max(self.segment_bytes(), VALUES * nbytes)
        memory = self.regions.memory(-(-wanted // PAGE) * PAGE)
        segment = Segment(self.next_number(), memory, queue)
        self.regions.enter(segment, segment.table)
        self.open[filled] = segment
        return segment

    def seal(self, segment: Segment) -> None:
        """Make it volatile."""
        segment.seal()
        self.regions.register(segment)
        if segment.dead >= MOSTLY * segment.used:
            self.compact(segment)
        self.sealed(segment)

    def seal_all(self, at_least: int = 0) -> None:
        """Make everything volatile, but for open segments with less than `at_least` bytes in them."""
        for queue, segment in sorted(self.open.items(), reverse=True):
            if segment.used >= at_least and self.open.get(queue) is segment:
                del self.open[queue]
                self.seal(segment)

    def compact(self, segment: Segment) -> None:
        """Have what lives in it moved, by and by."""
        segment.gone = True
        self.sparse.append([segment, 0])

    # ---- out

    def living(self, region: Region, start: int, end: int) -> list[tuple[int, int]]:
        """The slots whose values live, from `start` to before `end`, and their locators; in half the time."""
        get, keys, first = self.index.get, region.keys, region.number << NUMBER_SHIFT - KIND_BITS
        found = []
        for slot in range(start, end):
            try:
                locator = get(keys[slot], 0)
            except MemoryError:
                raise
            except Exception:
                continue
            if locator >> KIND_BITS == first | slot:
                found.append((slot, locator))
        return found

    def note_lost(self, key: Hashable, cost: int = UNKNOWN, since: float | None = None) -> None:
        """Count a key that the kernel took; `since` is when its region was begun, if that is known."""
        self.purged += 1
        self.lost_seconds += SECONDS[cost]
        if since is not None:
            self.ages.add(monotonic() - since)
        self.note_missing(key)
        if self.tell is not None:
            self.tell(key, "purged")

    def note_missing(self, key: Hashable) -> None:
        """To make it again will be a rebuild."""
        with suppress(Exception):  # a key that its owner has changed, or broken
            self.rebuilds.lost(hash(key))

    def count(self, why: Why | None) -> None:
        """A key left."""
        if why == "evicted":
            self.evicted += 1
        elif why == "expired":
            self.expired += 1

    def cost_of_dropped(self, locator: int) -> int:
        """The class of what a value took whose region was dropped, if its key was not removed yet."""
        for region, _, _ in self.dropped:
            if region.number == region_of(locator):
                return int(region.cost(slot_of(locator)))
        return UNKNOWN

    def _died(self, key: Hashable, locator: int, why: Why | None) -> None:
        region = self.regions.get(locator >> NUMBER_SHIFT)
        if region is None:  # the kernel took it before
            self.note_lost(key, self.cost_of_dropped(locator))
            return
        self.count(why)
        if self.tell is not None and why is not None:
            self.tell(key, why)
        if isinstance(region, LargeValue):
            self.retire(region)
            return
        region.table.dead += region.size(slot_of(locator))
        if not region.is_open and region.dead >= MOSTLY * region.used and not region.gone:
            self.compact(region)

    def retire(self, region: Region) -> None:
        """Give its memory back; arrays over it keep theirs until they die."""
        if self.regions.retire(region):
            self.retired(region)
