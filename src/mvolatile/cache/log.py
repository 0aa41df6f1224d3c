"""The log: the index, the shelves it points into, and the order in which they are given up.

All changes are made under the cache's lock. Readers take no lock: they look a locator up in `index`, its shelf in
`shelves`, and read; whichever of these is gone meanwhile is a miss or a reason to look again. So these two
are only ever changed in place, and a value is published last: written, then entered in `index`.

A change may be cut short anywhere by `KeyboardInterrupt`. What was published stays true; `mend.py` recounts the rest.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, TypeAlias

from .. import _core
from .._core import Index
from ..errors import Extents, Purged
from ..memory import VolatileMemory
from .addresses import OutOfMemoryError
from .departures import Why
from .segment import KIND_BITS, NUMBER_SHIFT, Range, Segment, Shelf

__all__ = ["SMALLEST_SEGMENT", "Log"]

SMALLEST_SEGMENT, LARGEST_SEGMENT = 4096, 2 << 20
FIRST_SEGMENT, FIRST_OF_MANY = 64 << 10, 8 << 10
ALL_FIRST = 4 << 20
"""A segment being filled is held. A thousand small caches would hold all their memory, so theirs begin smaller."""
VALUES, PAGE = 3, 4096
"""A new segment has room for so many values like the first one: with fewer, much of it would stay empty."""
MOSTLY = 2 / 3
"""A segment is compacted when so large a part of it is dead."""
SPARE = 2
"""How many emptied segments' memories are kept: a full cache fills one for each that it empties, and memory fresh from
the kernel costs ten times as much as the copy into it. They stay volatile, so the kernel may take them.
"""
MOST_SEGMENTS = 8192
"""From here on segments grow: each is a mapping, and a process may have 65,530."""

Order: TypeAlias = OrderedDict[int, Shelf]

logs: weakref.WeakSet[Log] = weakref.WeakSet()
"""The log of every open cache; how many there are decides how large first segments are."""


class Log:
    """`index` (key to locator) and `shelves` (number to what readers need), and the segments behind them.

    `ahead` and `behind` are the shelves before and after the hand of `Hand`, the oldest first.
    """

    def __init__(
        self,
        new_memory: Callable[[int], VolatileMemory],
        index: Index,
        shelves: dict[int, Any],
        max_bytes: int | None,
    ) -> None:
        self.new_memory = new_memory
        self.index = index
        self.shelves = shelves
        self.by_number: dict[int, Shelf] = {}
        self.ahead: Order = OrderedDict()
        self.behind: Order = OrderedDict()
        self.newest: Segment | None = None
        self.survivors: Segment | None = None
        self.dropped: deque[list[Any]] = deque()  # [shelf, next slot, lost]: the index still points there
        self.sparse: deque[list[Any]] = deque()  # [segment, next slot]: its live values are being moved
        self.leaving: weakref.WeakSet[VolatileMemory] = (
            weakref.WeakSet()
        )  # given up, and pinned by arrays still
        self.spare: list[VolatileMemory] = []
        self.nbytes = 0  # of values
        self.beside = 0  # ordinary memory, for what they need beside
        self.purged = 0
        self.taken = False  # the kernel took something, and nobody has acted on it
        self.survivors_are_young = False
        self.tell: Callable[[Hashable, Why], object] | None = None  # of each key that leaves
        self.max_bytes = max_bytes
        self.sealed: Callable[[Shelf], object] = lambda shelf: None
        self._numbers = count(1)
        logs.add(self)

    @property
    def footprint(self) -> int:
        """All bytes that the cache costs, about."""
        return self.nbytes + self.beside

    def next_number(self) -> int:
        """For a shelf to be made."""
        return next(self._numbers)

    def segment_bytes(self) -> int:
        """How large the next segment is to be: small beside the whole, so that little is open or moved at once."""
        total = self.nbytes if self.max_bytes is None else min(self.max_bytes, 64 * LARGEST_SEGMENT)
        if total > MOST_SEGMENTS * LARGEST_SEGMENT:
            return 1 << (total // MOST_SEGMENTS).bit_length()
        wanted = 1 << max(0, (total // 64).bit_length() - 1)
        least = SMALLEST_SEGMENT
        if self.max_bytes is None:
            share = 1 << (ALL_FIRST // max(1, len(logs))).bit_length() >> 1
            least = max(FIRST_OF_MANY, min(share, FIRST_SEGMENT))
        return max(least, min(wanted, LARGEST_SEGMENT))

    # ---- in

    def put(self, key: Hashable, kind: int, data: bytes, why: Why | None = "replaced", mark: int = 0) -> None:
        """Store a small value; what the key had before leaves for that reason, or is the same value."""
        if self.newest is None or not self.newest.has_room(len(data)):
            if self.newest is not None:
                full, self.newest = self.newest, None
                self.seal(full, self.ahead)
            self.newest = self._open(len(data))
        self._publish(key, self._append(self.newest, key, kind, data, mark), why)

    def put_range(self, shelf: Range) -> None:
        """Store a value that brings its own memory."""
        self._count_in(shelf)
        self.ahead[shelf.number] = shelf
        self._publish(shelf.keys[0], shelf.number << NUMBER_SHIFT | shelf.kind, "replaced")
        self.sealed(shelf)

    def given_back_by(self, key: Hashable) -> int:
        """Bytes that come back at once when `key` gets another value: a large one has memory of its own."""
        shelf = self.by_number.get(self.index.get(key, 0) >> NUMBER_SHIFT)
        return shelf.used if isinstance(shelf, Range) else 0

    def _open(self, nbytes: int) -> Segment:
        wanted = max(self.segment_bytes(), VALUES * nbytes)
        segment = Segment(self.next_number(), self._memory(-(-wanted // PAGE) * PAGE))
        self._count_in(segment)
        return segment

    def _memory(self, nbytes: int) -> VolatileMemory:
        while self.spare:
            memory = self.spare.pop()
            if nbytes <= memory.nbytes <= 2 * nbytes:
                return memory
        return self.new_memory(nbytes)

    def register(self, shelf: Shelf) -> None:
        """Have readers find it."""
        self.by_number[shelf.number] = shelf
        self.shelves[shelf.number] = shelf.row

    def _count_in(self, shelf: Shelf) -> None:
        self.register(shelf)
        self.nbytes += shelf.used
        self.beside += shelf.beside

    def _append(self, segment: Segment, key: Hashable, kind: int, data: bytes, mark: int) -> int:
        before = segment.beside
        slot = segment.append(key, data, mark)
        self.nbytes += len(data)
        self.beside += segment.beside - before
        return segment.number << NUMBER_SHIFT | slot << KIND_BITS | kind

    def _publish(self, key: Hashable, locator: int, why: Why | None) -> None:
        old = self.index.get(key)
        self.index[key] = locator
        if old is not None:
            self._died(key, old, why)

    def seal(self, segment: Segment, order: Order) -> None:
        """Make it volatile and put it in order."""
        order[segment.number] = segment
        segment.seal()
        self.register(segment)
        if segment.dead >= MOSTLY * segment.used:
            self.compact(segment)
        self.sealed(segment)

    def seal_all(self, at_least: int = 0) -> None:
        """Make everything volatile, but for open segments with less than `at_least` bytes in them."""
        if self.survivors is not None and self.survivors.used >= at_least:
            full, self.survivors = self.survivors, None
            self.seal(full, self.ahead if self.survivors_are_young else self.behind)
        if self.newest is not None and self.newest.used >= at_least:
            full, self.newest = self.newest, None
            self.seal(full, self.ahead)

    # ---- out

    def remove(self, key: Hashable, locator: int | None, why: Why) -> bool:
        """Forget a key, if it is (still) at `locator`, if that is given."""
        old = self.index.get(key)
        if old is None or (locator is not None and old != locator):
            return False
        del self.index[key]
        self._died(key, old, why)
        return True

    def evict(self, key: Hashable) -> None:
        """Forget a key whose shelf is given up, or its place there."""
        del self.index[key]
        if self.tell is not None:
            self.tell(key, "evicted")

    def lose(self, key: Hashable, locator: int) -> None:
        """A reader found that value purged: see what else is."""
        shelf = self.by_number.get(locator >> NUMBER_SHIFT)
        if shelf is not None:
            self.inspect(shelf)
        if self.index.get(key) == locator:
            del self.index[key]
            self.note_lost(key)

    def forget_dangling(self, key: Hashable, locator: int) -> None:
        """A reader met a locator whose shelf was dropped."""
        number = locator >> NUMBER_SHIFT
        if self.index.get(key) != locator or number in self.by_number:
            return
        del self.index[key]
        if any(shelf.number == number and lost for shelf, _, lost in self.dropped):
            self.note_lost(key)

    def note_lost(self, key: Hashable) -> None:
        """Count a key that the kernel took."""
        self.purged += 1
        if self.tell is not None:
            self.tell(key, "purged")

    def _died(self, key: Hashable, locator: int, why: Why | None) -> None:
        shelf = self.by_number.get(locator >> NUMBER_SHIFT)
        if shelf is None:  # the kernel took it before
            self.note_lost(key)
            return
        if self.tell is not None and why is not None:
            self.tell(key, why)
        if isinstance(shelf, Range):
            self.retire(shelf)
            return
        slot = (locator >> KIND_BITS) % (1 << NUMBER_SHIFT - KIND_BITS)
        shelf.dead += shelf.size(slot)
        if shelf.view is None and shelf.dead >= MOSTLY * shelf.used and not shelf.gone:
            self.compact(shelf)

    def retire(self, shelf: Shelf) -> None:
        """Give its memory back; pinned arrays keep theirs until they die."""
        if self.by_number.pop(shelf.number, None) is None:
            return
        shelf.gone = True
        if _core.pins(shelf.memory):
            self.leaving.add(shelf.memory)
        self.shelves.pop(shelf.number, None)
        if self.ahead.pop(shelf.number, None) is None:
            self.behind.pop(shelf.number, None)
        self.nbytes -= shelf.used - shelf.emptied
        self.beside -= shelf.beside - shelf.emptied_beside
        if isinstance(shelf, Segment) and shelf.view is None and len(self.spare) < SPARE:
            memory = shelf.let_go()
            if memory is not None:
                self.spare.append(memory)

    def drop(self, shelf: Shelf, lost: bool) -> None:
        """Give up all values on it; `clean` removes their keys later."""
        self.retire(shelf)
        self.dropped.append([shelf, 0, lost])

    def inspect(self, shelf: Shelf) -> None:
        """Ask the kernel what it took from a shelf, and act on it."""
        if shelf.view is not None or shelf.gone or shelf.number not in self.by_number:
            return
        extents: Extents = shelf.memory.purged()
        if not extents:
            return
        self.taken = True
        if isinstance(shelf, Range) or sum(n for _, n in extents) >= shelf.used:
            self.drop(shelf, lost=True)
        else:
            self.compact(shelf)

    # ---- bounded work

    def clean(self, steps: int) -> bool:
        """Remove up to `steps` keys of dropped shelves from the index; False when there are none."""
        if not self.dropped:
            return False
        job = self.dropped[0]
        shelf, at, lost = job
        end = min(len(shelf.keys), at + steps)
        for slot in range(at, end):
            if self.lives(shelf, slot):
                del self.index[shelf.keys[slot]]
                if lost:
                    self.note_lost(shelf.keys[slot])
        job[1] = end
        if end == len(shelf.keys):
            self.dropped.popleft()
        return True

    def compact(self, segment: Segment) -> None:
        """Have what lives on it moved among the survivors, by and by."""
        segment.gone = True
        self.sparse.append([segment, 0])

    def work(self, steps: int) -> bool:
        """Go on with that for up to `steps` values; False when there is nothing to move."""
        if not self.sparse:
            return False
        job = self.sparse[0]
        segment, at = job
        end = min(len(segment.keys), at + steps)
        if segment.number in self.by_number:
            for slot in range(at, end):
                self.keep(segment, slot, segment.marked(slot))
                self.emptied(segment, slot)
        job[1] = end
        if end == len(segment.keys):
            self.sparse.popleft()
            self.retire(segment)
        return True

    def emptied(self, segment: Segment, slot: int) -> None:
        """All values up to `slot` were moved or given up: they count no more, though their pages stay until all are."""
        if segment.number in self.by_number:
            before, segment.emptied = segment.emptied, max(segment.emptied, sum(segment.row.bounds(slot)))
            self.nbytes -= segment.emptied - before
            before = segment.emptied_beside
            segment.emptied_beside = max(before, segment.beside * (slot + 1) // len(segment.keys))
            self.beside -= segment.emptied_beside - before

    def lives(self, shelf: Shelf, slot: int) -> bool:
        """Whether the index still points there. Not for a key whose ``__hash__`` or ``__eq__`` fails now: it leaves
        with its place, so that whoever moves the others need not fail with it.
        """
        try:
            locator = self.index.get(shelf.keys[slot], 0)
        except MemoryError:
            raise
        except Exception:
            return False
        return locator >> KIND_BITS == shelf.number << NUMBER_SHIFT - KIND_BITS | slot

    def keep(self, segment: Segment, slot: int, mark: int) -> None:
        """Move a value, if it lives, among the survivors."""
        if not self.lives(segment, slot):
            return
        key = segment.keys[slot]
        try:
            data = segment.fetch(slot)
        except Purged:
            del self.index[key]
            self.note_lost(key)
            return
        if self.survivors is None or not self.survivors.has_room(len(data)):
            if self.survivors is not None:
                full, self.survivors = self.survivors, None
                self.seal(full, self.ahead if self.survivors_are_young else self.behind)
            try:
                self.survivors = self._open(len(data))
            except OutOfMemoryError:
                self.evict(key)
                return
        kind = self.index[key] & (1 << KIND_BITS) - 1
        self.index[key] = self._append(self.survivors, key, kind, data, mark)

    def clear(self, why: Why = "cleared") -> None:
        """Forget everything."""
        if self.tell is not None:
            for key in self.index:
                self.tell(key, why)
        self.newest = self.survivors = None
        # The index last: it makes an empty one, and there may be no memory for that before the rest is gone.
        for table in (self.shelves, self.by_number, self.ahead, self.behind, self.index):
            table.clear()
        for jobs in (self.dropped, self.sparse, self.spare):
            jobs.clear()
        self.nbytes = self.beside = 0
