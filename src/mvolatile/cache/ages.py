"""How old values were when the kernel took them."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS", "Ages"]

BOUNDS = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
"""Seconds, each the upper bound of a class; what is older is in one more."""


class Ages:
    """A histogram. Age is the time since a value's memory was begun: a segment's first value is as old, later ones are
    younger; what the cache moved begins anew.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, age: float) -> None:
        """One more, of so many seconds."""
        self.counts[bisect_left(BOUNDS, age)] += 1
        self.sum += age
