"""The keeper's records as the private cache's eviction sees values: policies ask, the evictor has them go or stay.

Keys are hashes: the record has the key, and is not read to be given up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .eviction import Budget
from .index import Index
from .segment import Segment
from .segments import Segments
from .visits import Visits

__all__ = ["Evictable"]


class Evictable:
    """What an evictor needs of a store, and a policy of a cache. `carry` moves a record."""

    def __init__(self, index: Index, segments: Segments, visits: Visits, budget: Budget) -> None:
        self.evicted = 0
        self.visits: Callable[[Any], int | None] = visits.of
        self.carry: Callable[[int, int], bool] = _goes
        self._index, self._segments, self._visits, self._budget = index, segments, visits, budget

    # ---- for policies

    @property
    def limit(self) -> float:
        """Bytes that records may take now."""
        return self._budget.limit

    @property
    def nbytes(self) -> int:
        """Bytes that they take, dead ones too."""
        return self._segments.held

    @property
    def entries(self) -> int:
        """How many there are."""
        return self._index.slots.used

    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        return self._visits.counts()[:2]

    def filling(self, queue: int) -> Segment | None:
        """The segment that is being filled for a queue."""
        return self._segments.open.get(queue)

    def lives(self, region: Any, slot: int) -> bool:
        """Whether the record there is the one of its key."""
        slots = self._index.slots
        at = slots.find(region.keys[slot])
        return at >= 0 and slots.get(at)[1] == region.address(slot)

    # ---- for the evictor

    def evict(self, key: Any) -> None:
        """Forget a key, by its hash."""
        self.evicted += 1
        self.remove(self._index.slots.find(key))

    def remove(self, at: int) -> None:
        """Forget what a slot has."""
        slots = self._index.slots
        _, address, nbytes, *_ = slots.get(at)
        slots.remove(at)
        self._segments.died(address, nbytes)

    def move(self, segment: Any, slot: int, queue: int, visits: int) -> None:
        """Write it to where those of `queue` are filled in. It leaves if that cannot be."""
        key = segment.keys[slot]
        if self.carry(self._index.slots.find(key), queue) and not visits:
            self._visits.forget(key)

    def emptied(self, segment: Any, slot: int) -> None:
        """All up to `slot` were moved or given up."""
        self._segments.emptied(segment, slot)

    def retire(self, region: Any) -> None:
        """Give a region's memory back."""
        self._segments.forget(region)

    def seal_all(self) -> None:
        """Have what is being filled put in order."""
        for queue in sorted(self._segments.open, reverse=True):
            self._segments.seal(queue)


def _goes(_at: int, _queue: int) -> bool:
    return False
