"""CLOCK: what was visited is moved among the newest, so that a value has a whole turn in which to be visited again.

Never far behind LRU, and never far ahead.
"""

from __future__ import annotations

from .policy import AGAIN, Policy, Region, Stay

__all__ = ["Clock"]


class Clock(Policy):
    """One queue: whatever is sealed is the newest."""

    def visited(self, region: Region, slot: int) -> Stay | None:
        """One visit keeps it."""
        return AGAIN if region.visits(slot) else None
