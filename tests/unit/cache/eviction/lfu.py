"""A policy that is none of the library's: a value stays for as many passes as it was visited, halved each time."""

from __future__ import annotations

from mvolatile.cache.eviction.policy import KEPT, Policy, Region, Stay


class LFU(Policy):
    """Least frequently used, aged."""

    def visited(self, region: Region, slot: int) -> Stay | None:
        """Half of what it had; with nothing left it goes."""
        visits = region.visits(slot)
        return Stay(KEPT, visits // 2) if visits else None
