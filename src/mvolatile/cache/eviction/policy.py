"""The interface of eviction policies. A policy decides which values go, and does nothing itself: `Evictor` carries it
out on a store, `Simulated` on numbers alone.

Values lie in regions: segments, which many share, and large values. Memory comes back a region at a time, and the
kernel takes the oldest mark first. So a policy orders *regions*, and its verdict on each value is given when the
evictor passes over the region: the value goes, or stays, which for one in a segment is a copy into another.

The contract:

- All is called under the cache's lock, by one thread at a time; nothing here may call back into the cache.
- A hit calls nothing. It counts a visit in the value's slot (a byte, which stops at 255), and that is what `visited`
  sees later.
- A policy owns its queues, and writes no field of a region or a store. What it keeps for a value (ghosts, a sketch)
  must not take more than 8 bytes an entry.
- A region that was `sealed` is in the policy's order until `left` is called, or `sealed` again: a large value that
  stays is put in order anew. After a call that was cut short (`KeyboardInterrupt`) the policy is told by `left` of
  regions that are no more, and by `sealed` of those that are not in order.
- With the kernel's own eviction nothing is different but who says how much goes (`budget.py`). What the kernel took
  leaves by `left`, without a verdict.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias

from ..queues import FRESH, KEPT

__all__ = ["AGAIN", "FRESH", "KEPT", "Figures", "Policy", "Queue", "Region", "Stay"]


class Region(Protocol):
    """What a policy sees of a region."""

    number: int
    """Never used twice."""
    queue: int
    """Into which its values were stored."""

    @property
    def keys(self) -> Sequence[Hashable]:
        """By slot. Not all live: the evictor asks about those that do."""
        ...

    @property
    def is_large(self) -> bool:
        """Whether it has one value, which stays by ``stay(queue, visits)`` and not by a copy."""
        ...

    @property
    def used(self) -> int:
        """Bytes of its values, with those that do not live any more."""
        ...

    @property
    def emptied(self) -> int:
        """Of which so many, from the front, were moved or given up."""
        ...

    @property
    def passed(self) -> int:
        """Slots that the evictor has passed over."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether it is being filled: it is not sealed yet."""
        ...

    def visits(self, slot: int, /) -> int:
        """How often the value was read since it was stored or moved, or since the evictor passed; at most 255."""
        ...

    def size(self, slot: int, /) -> int:
        """Its bytes."""
        ...

    def cost(self, slot: int, /) -> int:
        """The class of what it took to make (`cost.py`), 0 if nobody knows."""
        ...


class Figures(Protocol):
    """What a policy may ask about its cache."""

    @property
    def limit(self) -> float:
        """Bytes that values may take now; infinite where nothing bounds them."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        ...

    @property
    def entries(self) -> int:
        """How many values there are."""
        ...

    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        ...

    def filling(self, queue: int) -> Region | None:
        """The segment that is being filled for a queue."""
        ...

    def lives(self, region: Any, slot: int, /) -> bool:
        """Whether the value there is the one of its key."""
        ...

    def visits(self, key: Hashable, /) -> int | None:
        """Those of the value of a key; None where it is gone."""
        ...


class Stay(NamedTuple):
    """A value stays: in which queue, and as if it had been visited so often since."""

    queue: int
    visits: int


AGAIN = Stay(KEPT, 0)
"""It must be visited again to stay the next time."""

Queue: TypeAlias = OrderedDict[int, Region]


class Policy:
    """First in, first out, which others change: they say what their queues are, and what stays."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self._queues: list[Queue] = [OrderedDict()]

    # ---- told

    def stored(self, key: Hashable, nbytes: int, cost: int, /) -> int:
        """A value is about to be stored; `cost` is the class of what it took, 0 if nobody knows. In which queue?"""
        return FRESH

    def wanted(self, key: Hashable, /) -> int:
        """A value might be stored, or not: how often its key was asked for lately, about. Called without the lock."""
        return 0

    def indifferent(self) -> float:
        """So many bytes may be stored without asking `stored`, into `FRESH`."""
        return float("inf")

    def sealed(self, region: Region, /) -> None:
        """A region is full, or a large value stored, or to stay: it has its place in order from now on."""
        self.left(region)
        self._queues[0][region.number] = region

    def left(self, region: Region, /) -> None:
        """A region is no more."""
        for queue in self._queues:
            queue.pop(region.number, None)

    def mended(self) -> None:
        """After a change that was cut short all regions are in order again; what was counted may be wrong."""

    # ---- asked

    def evict(self) -> Region | None:
        """The region whose next value is to be passed over: one in order, or one that is being filled and has values
        that were not passed over. None where there is none: then all is sealed, and it is asked again.
        """
        return next(iter(self._queues[0].values()), None)

    def visited(self, region: Region, slot: int, /) -> Stay | None:
        """The evictor passes over a value that lives: it stays, or with None it goes."""
        return None

    def queues(self) -> Sequence[Iterable[Region]]:
        """All regions in order, the oldest of each queue first: those the kernel takes first, as far as is known. To be
        gone through once, while nothing is told.
        """
        return [queue.values() for queue in self._queues]

    def order(self) -> Iterator[Region]:
        """All regions, those first that have been there longest."""
        return chain.from_iterable(self.queues())
