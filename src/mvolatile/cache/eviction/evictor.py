"""Carries a policy out: passes over values, one at a time, and has each go or stay.

It is in the middle of several segments where the policy goes from queue to queue, and of what is being filled: all
that a small cache has may be there. Published bytes are never written again, so what was passed over is only forgotten.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from .policy import Policy

__all__ = ["Evictor", "Holds"]


class Holds(Protocol):
    """What an evictor needs of a store: `Store`, the simulated one, and a keeper's have it."""

    def lives(self, region: Any, slot: int, /) -> bool:
        """Whether that is the value of its key."""
        ...

    def evict(self, key: Hashable, /) -> None:
        """Forget a key; its region goes later."""
        ...

    def move(self, segment: Any, slot: int, queue: int, visits: int, /) -> None:
        """Copy a value to where those of `queue` are filled in."""
        ...

    def emptied(self, segment: Any, slot: int, /) -> None:
        """All values up to `slot` were moved or given up."""
        ...

    def retire(self, region: Any, /) -> None:
        """Give a region's memory back."""
        ...

    def seal_all(self) -> None:
        """Have what is being filled put in order."""
        ...


class Evictor:
    """Gives up values of `store`, as `policy` says."""

    def __init__(self, store: Holds, policy: Policy) -> None:
        self.store = store
        self.policy = policy

    def advance(self) -> bool:
        """Pass one value; False when there is nothing left to give up."""
        region: Any = self.policy.evict()
        if region is None:
            self.store.seal_all()
            region = self.policy.evict()
        if region is None:
            return False
        if region.is_large:
            self._pass_large(region)
        else:
            self._pass_slot(region, region.passed)
        return True

    def _pass_slot(self, segment: Any, slot: int) -> None:
        store = self.store
        if slot < len(segment.keys):
            if store.lives(segment, slot):
                stay = self.policy.visited(segment, slot)
                if stay is None:
                    store.evict(segment.keys[slot])
                else:
                    store.move(segment, slot, *stay)
            segment.passed = slot + 1
            store.emptied(segment, slot)
        if segment.passed >= len(segment.keys) and not segment.is_open:
            store.retire(segment)

    def _pass_large(self, value: Any) -> None:
        store = self.store
        if store.lives(value, 0):
            stay = self.policy.visited(value, 0)
            if stay is not None:
                value.stay(*stay)
                self.policy.sealed(value)
                return
            store.evict(value.keys[0])
        store.retire(value)
