"""A policy on numbers alone: what it would have kept, with no byte stored. For benchmarks, tests, and policies that try
others out. Segments are as large, and filled and passed over in the same way, as those of `Store`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count

from ..store import segment_bytes
from .evictor import Evictor
from .policy import Figures, Policy

__all__ = ["Simulated", "SimulatedRegion"]


class SimulatedRegion:
    """A segment: of each value its key, its size and its visits."""

    is_large = False

    def __init__(self, number: int, queue: int) -> None:
        self.number = number
        self.queue = queue
        self.keys: list[Hashable] = []
        self.sizes: list[int] = []
        self.costs: list[int] = []
        self.visited = bytearray()
        self.used = 0
        self.emptied = self.passed = 0  # bytes, and slots
        self.is_open = True

    def append(self, key: Hashable, nbytes: int, visits: int, cost: int) -> int:
        """The slot."""
        self.keys.append(key)
        self.sizes.append(nbytes)
        self.costs.append(cost)
        self.visited.append(visits)
        self.used += nbytes
        return len(self.keys) - 1

    def visits(self, slot: int) -> int:
        """How often it was read."""
        return self.visited[slot]

    def visit(self, slot: int) -> None:
        """It was read."""
        self.visited[slot] = min(255, self.visited[slot] + 1)

    def size(self, slot: int) -> int:
        """Its bytes."""
        return self.sizes[slot]

    def cost(self, slot: int) -> int:
        """The class of what it took to make."""
        return self.costs[slot]


class Simulated:
    """`access` it as a program would a cache: it answers whether that was a hit, and stores what was not."""

    def __init__(
        self,
        policy: Callable[[Figures], Policy],
        max_bytes: int | None = None,
        maxsize: int | None = None,
        segment: int | None = None,
    ) -> None:
        """`segment`: bytes of a segment, if not what a store would choose; 1 for a policy value by value."""
        self.max_bytes, self.maxsize = max_bytes, maxsize
        self.hits = self.misses = self.nbytes = 0
        self.regions: dict[int, SimulatedRegion] = {}
        self.index: dict[Hashable, tuple[SimulatedRegion, int]] = {}
        self.policy = policy(self)
        self._segment = segment
        self._open: dict[int, SimulatedRegion] = {}
        self._evictor = Evictor(self, self.policy)
        self._numbers = count(1)

    @property
    def limit(self) -> float:
        """Bytes that values may take."""
        return float("inf") if self.max_bytes is None else self.max_bytes

    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        return self.hits, self.misses

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self.index)

    def filling(self, queue: int) -> SimulatedRegion | None:
        """The segment that is being filled for a queue."""
        return self._open.get(queue)

    def visits(self, key: Hashable) -> int | None:
        """Those of a key; None where it is gone."""
        place = self.index.get(key)
        return None if place is None else place[0].visits(place[1])

    def access(self, key: Hashable, nbytes: int = 1, cost: int = 0) -> bool:
        """Whether it was there; else it is now, unless it is larger than all."""
        place = self.index.get(key)
        if place is not None:
            place[0].visit(place[1])
            self.hits += 1
            return True
        self.misses += 1
        if nbytes <= self.limit and self.maxsize != 0:
            self._store(key, nbytes, cost)
        return False

    def _store(self, key: Hashable, nbytes: int, cost: int) -> None:
        queue = self.policy.stored(key, nbytes, cost)
        while self.nbytes + nbytes > self.limit and self._evictor.advance():
            pass
        while self.maxsize is not None and len(self.index) >= self.maxsize and self._evictor.advance():
            pass
        self._append(key, nbytes, queue, 0, cost)

    def _append(self, key: Hashable, nbytes: int, queue: int, visits: int, cost: int) -> None:
        region = self._open.get(queue)
        if region is not None and region.used + nbytes > self._room():
            self._seal(queue)
            region = None
        if region is None:
            region = self._open[queue] = SimulatedRegion(next(self._numbers), queue)
            self.regions[region.number] = region
        self.index[key] = region, region.append(key, nbytes, visits, cost)
        self.nbytes += nbytes

    def _room(self) -> int:
        return self._segment or segment_bytes(self.nbytes, self.max_bytes, 1)

    # ---- what an evictor needs

    def lives(self, region: SimulatedRegion, slot: int) -> bool:
        """Whether that is the value of its key."""
        return self.index.get(region.keys[slot]) == (region, slot)

    def evict(self, key: Hashable) -> None:
        """Forget it."""
        del self.index[key]

    def move(self, segment: SimulatedRegion, slot: int, queue: int, visits: int) -> None:
        """Put it into another."""
        self._append(segment.keys[slot], segment.sizes[slot], queue, visits, segment.costs[slot])

    def emptied(self, segment: SimulatedRegion, slot: int) -> None:
        """Values up to `slot` count no more."""
        if segment.number in self.regions:
            segment.emptied += segment.sizes[slot]
            self.nbytes -= segment.sizes[slot]

    def retire(self, region: SimulatedRegion) -> None:
        """It is no more."""
        if self.regions.pop(region.number, None) is not None:
            self.policy.left(region)

    def seal_all(self) -> None:
        """Put what is being filled in order."""
        for queue in list(self._open):
            self._seal(queue)

    def _seal(self, queue: int) -> None:
        region = self._open.pop(queue)
        region.is_open = False
        self.policy.sealed(region)
