"""All segments of a keeper: where the next record goes, and what they take together."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable

from .index import Index
from .segment import ALIGNMENT, HUGE, SEGMENT, TIMES, Segment, Spare, bytes_for, rounded
from .visits import Visits
from .wire import INLINE

__all__ = ["SEGMENT", "Segments"]

LITTLE = 32
"""How many times as much a cache holds as a segment that is kept open for a record that may fit."""


class Segments:
    """`sealed` and `left` are told of each; `make_room` is to give up so many bytes where no memory is to be had."""

    def __init__(self, name: str, index: Index, visits: Visits) -> None:
        self._name = name
        self._index = index
        self._visits = visits
        self.open: dict[int, Segment] = {}  # by queue
        self._nearly_full: dict[int, Segment] = {}
        self.nbytes = 0
        """Of the records that the index has."""
        self.held = 0
        """And of those that it had, but for what the evictor has passed."""
        self.records = 0
        self.filled = False
        """Whether one was, since that was last looked at."""
        self.spare = Spare()
        self._starts: list[int] = []
        self._all: dict[int, Segment] = {}  # by start, the oldest first
        self.sealed: Callable[[Segment], object] = _nothing
        self.left: Callable[[Segment], object] = _nothing
        self.make_room: Callable[[int], object] = _nothing

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Segment]:
        """The oldest first."""
        return list(self._all.values())

    def has(self, segment: Segment) -> bool:
        """Whether it is one of these still."""
        return self._all.get(segment.start) is segment

    def of(self, address: int) -> Segment:
        """The one that has the record there."""
        return self._all[self._starts[bisect_right(self._starts, address) - 1]]

    # ---- in

    def place(
        self, key_length: int, length: int, queue: int, urgent: bool = True
    ) -> tuple[Segment, int, int]:
        """Where a record is to be written, which the segment is then to be told of, and its bytes."""
        size_at = self._index.slots.size
        size = size_at(0, key_length, length)
        shared = bytes_for(size, length <= INLINE, self.held)
        if not shared:
            segment = self._new(size, queue, urgent, is_large=True)
            return segment, segment.start, size
        for segment in filter(None, (self._nearly_full.get(queue), self.open.get(queue))):
            address = segment.start + segment.used + -segment.used % ALIGNMENT
            size = size_at(address, key_length, length)
            if address + size <= segment.start + segment.nbytes:
                return segment, address, size
        self._set_aside(queue)
        # Fresh memory takes several times as long as what is copied into it: large ones share what is spare.
        least = 0 if shared == SEGMENT else max(size, HUGE)
        segment = self._new(max(shared, size), queue, urgent, least=least)
        self._set_aside(queue)  # what was given up for it may have left some there
        self.open[queue] = segment
        return segment, segment.start, size_at(segment.start, key_length, length)

    def _new(self, nbytes: int, queue: int, urgent: bool, is_large: bool = False, least: int = 0) -> Segment:
        """`least`: bytes of one of another size, which may be taken from what is spare."""
        nbytes = rounded(nbytes)
        try:
            segment = self._begun(nbytes, queue, is_large, least)
        except (OSError, MemoryError):
            if not urgent:
                raise
            self.make_room(nbytes)
            self.spare.drop()
            segment = self._begun(nbytes, queue, is_large, least)
        self._all[segment.start] = segment
        insort(self._starts, segment.start)
        return segment

    def _begun(self, nbytes: int, queue: int, is_large: bool, least: int) -> Segment:
        segment = self.spare.take(nbytes, nbytes)
        if segment is None and least:
            segment = self.spare.take(least, self.held // TIMES)
        segment = segment or Segment(nbytes, self._name, self._visits)
        segment.begin(queue, is_large)
        return segment

    def wrote(self, segment: Segment, key: int, address: int, nbytes: int) -> None:
        """A record, which the index has."""
        self.held += segment.append(key, address, nbytes)
        self.nbytes += nbytes
        self.records += 1
        if segment.is_large:
            self._seal(segment)

    def unwritten(self, segment: Segment) -> None:
        """What was to be written there was not."""
        if not segment.live and segment.is_large:
            self.forget(segment)

    def _set_aside(self, queue: int) -> None:
        """What is being filled for a queue has no room for a record, but may have for a smaller one: where it is little
        beside the rest it is held until the next one is as full. Else a fortieth of all would be such rests.
        """
        segment = self.open.pop(queue, None)
        if segment is None:
            return
        if SEGMENT < segment.nbytes <= self.held // LITTLE:
            earlier = self._nearly_full.get(queue)
            self._nearly_full[queue] = segment
            segment = earlier
        if segment is not None:
            self.filled = True
            self._seal(segment)

    def seal(self, queue: int) -> None:
        """Nothing more comes into what is being filled for a queue."""
        for of in (self._nearly_full, self.open):
            segment = of.pop(queue, None)
            if segment is not None:
                self.filled = True
                self._seal(segment)

    def _seal(self, segment: Segment) -> None:
        segment.seal()
        if segment.live:
            self.sealed(segment)
        else:
            self.forget(segment)

    # ---- out

    def died(self, address: int, nbytes: int) -> None:
        """The index has that record no more."""
        segment = self.of(address)
        segment.live -= nbytes
        self.nbytes -= nbytes
        if not segment.live and not segment.is_open:
            self.forget(segment)

    def emptied(self, segment: Segment, slot: int) -> None:
        """All records up to `slot` were moved or given up."""
        if self.has(segment):
            to = segment.address(slot) + segment.size(slot) - segment.start
            if to > segment.emptied:
                self.held -= to - segment.emptied
                segment.empty(to)

    def forget(self, segment: Segment) -> None:
        """No slot tells of anything in it."""
        if not self.has(segment):
            return
        del self._all[segment.start]
        del self._starts[bisect_right(self._starts, segment.start) - 1]
        self.held -= segment.used - segment.emptied
        self.records -= len(segment.keys)
        self.left(segment)
        self.spare.keep(segment, self.held)

    def clear(self) -> None:
        """The index has nothing any more."""
        self.open.clear()
        self._nearly_full.clear()
        for segment in self.all():
            self.forget(segment)
        self.spare.drop()
        self.nbytes = 0

    # ---- figures

    def resident(self) -> int | None:
        """Bytes of it in RAM; None where nobody says."""
        try:
            return sum(segment.memory.resident() for segment in self._all.values())
        except OSError:
            return None

    def pinned(self) -> int:
        """Bytes the kernel cannot take."""
        return sum(segment.nbytes for of in (self.open, self._nearly_full) for segment in of.values())


def _nothing(_: object) -> None:
    """Nobody is to be told."""
