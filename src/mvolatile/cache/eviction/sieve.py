"""SIEVE (Zhang et al., NSDI 2024): what was visited stays in its place.

The evictor passes from the oldest value to the newest. One that was visited since it last passed stays, and must be
visited again; one that was not goes. So the evictor soon reaches new values, and gives up early those that nobody asks
for a second time. Here it passes a region at a time: what stays is moved together, in order, behind it. At the newest
it starts over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from .policy import AGAIN, KEPT, Figures, Policy, Region, Stay

__all__ = ["Sieve"]


class Sieve(Policy):
    """Two queues: what is ahead of the evictor, and what is behind."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(figures)
        self._queues = [OrderedDict(), OrderedDict()]

    def sealed(self, region: Region) -> None:
        """New regions are ahead, what stayed is behind."""
        self.left(region)
        ahead, behind = self._queues
        (behind if region.queue == KEPT else ahead)[region.number] = region

    def evict(self) -> Region | None:
        """The oldest ahead; at the newest it starts over."""
        if not self._queues[0]:
            self._queues.reverse()
        return super().evict()

    def visited(self, region: Region, slot: int) -> Stay | None:
        """One visit keeps it."""
        return AGAIN if region.visits(slot) else None

    def order(self) -> Iterator[Region]:
        """What is behind came first."""
        ahead, behind = self._queues
        return chain(behind.values(), ahead.values())
