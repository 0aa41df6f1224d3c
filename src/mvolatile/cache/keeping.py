"""What is dear stays longest where the kernel evicts, too.

The kernel takes the oldest mark first, whatever lies there; but a page that was read since its mark goes to the end of
the line when its turn comes. So the regions whose values are worth most a byte are read again, a byte of each page: a
part of them for what is filled, all of them when memory grows short. A hit reads pages, too, so what is used needs none
of this. Values of one segment are to be worth about the same: so those that cost much more than usual share segments of
their own.

Rejected: to copy what is dear to newer memory, which is wanted just when there is none; to hold it and mark it again,
which moves no page that was marked before (Linux 6.18: `MADV_FREE` puts a page in line once).
"""

from __future__ import annotations

from collections import OrderedDict
from math import log2

from .. import _core
from .cost import STEPS
from .store import NO_CLASS, Region, Store

__all__ = ["Keeping"]

MORE_THAN_USUAL = 1.0
"""Powers of two: a region is dear if its values are worth so much more a byte than is usual."""
APART = 2 * STEPS
"""Classes of cost above the usual one from where on a value is in a segment of its kind."""
MEMORY = 1 / 16
"""The part of what is usual that each region takes, after the first."""
PACE = 1 << 20
"""After so many bytes were filled, as many of what is dear are read."""
MOST = 256 << 20
"""Bytes that are looked after at once, at most: 65,536 pages, a millisecond or some."""


class Keeping:
    """Of one cache. All is called in a change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._dear: OrderedDict[int, Region] = OrderedDict()  # those that were read longest ago first
        self._cost = self._worth = 0.0
        self._part = 1.0
        self._filled = 0

    def sealed(self, region: Region) -> None:
        """A region was filled."""
        if cost := region.usual_cost():
            self._weigh(region, cost)
        if self._dear:
            self._filled += region.used
            if self._filled >= PACE:
                self.read_again(self._filled)
                self._filled = 0

    def _weigh(self, region: Region, cost: float) -> None:
        worth = cost / STEPS - log2(max(1, region.used) / len(region.keys))
        self._cost += self._part * (cost - self._cost)
        self._worth += self._part * (worth - self._worth)
        self._part = max(MEMORY, self._part / (1 + self._part))
        if worth > self._worth + MORE_THAN_USUAL:
            self._dear[region.number] = region
            self._read(region)
        self._store.dear = round(self._cost) + APART if self._store.gives_way else NO_CLASS

    def left(self, region: Region) -> None:
        """It is no more."""
        if self._dear:
            self._dear.pop(region.number, None)

    def read_again(self, nbytes: int = MOST) -> None:
        """So many bytes of what is dear, in turn."""
        for _ in range(len(self._dear)):
            if nbytes <= 0 or not self._dear:
                return
            number, region = next(iter(self._dear.items()))
            self._dear.move_to_end(number)
            nbytes -= region.memory.nbytes
            self._read(region)

    def _read(self, region: Region) -> None:
        if region.number not in self._store.regions:
            self._dear.pop(region.number, None)
        elif not _core.keep_young(region.memory):
            self._store.inspect(region)
