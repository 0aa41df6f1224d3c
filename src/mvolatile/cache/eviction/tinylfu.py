"""W-TinyLFU (Einziger, Friedman and Manes, 2017), a region at a time, with a window as large as is best now.

New values are in the window. There CLOCK gives what was used once a second turn, and what was used twice or more enters
the main part, as in S3-FIFO (Yang et al., SOSP 2023): beside victims that gathered counts for long, what has just
become popular would never win. The others are candidates for the main part, where most values are. The next one to go
there is the victim: by CLOCK with counters, so that what was used often stays for up to three passes. The candidate
takes its place if it was asked for more often lately, and else goes: so what is read once, or in a loop longer than the
cache, leaves what is used alone. `Sketch` says how often: it counts stores, and visits when the evictor passes. So a
hit costs nothing, and keys that are gone are known again. Where values are apart by what they cost and by their bytes,
that decides beside use: `_core/cache/worth.c`.

A large window follows what is new, a small one keeps what is used often, and neither is best everywhere: see
`miniature.py`. With a window of all there is, this is CLOCK.

All that is decided for each value is in C (`_core/cache/tinylfu.c`): a store in a full cache asks some five times.
"""

from __future__ import annotations

from ..._core import TinyLFU
from .miniature import CHOICES, FIRST
from .policy import Figures, Policy, Stay

__all__ = ["WindowTinyLFU"]


class WindowTinyLFU(TinyLFU, Policy):
    """Two queues: window and main part."""

    def __new__(cls, figures: Figures) -> WindowTinyLFU:
        """What the cache is like is not asked yet. What a private cache's `lookup` counts is read there."""
        lookup = getattr(figures, "lookup", None)
        return super().__new__(cls, figures, lookup, CHOICES, FIRST, Stay)

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def indifferent(self) -> float:
        """Until the cache is half full."""
        return self.figures.limit / 2 - self.figures.nbytes
