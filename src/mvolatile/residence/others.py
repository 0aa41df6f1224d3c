"""What the process takes beside volatile memory: whoever looks at RSS sees the sum."""

from __future__ import annotations

import resource

from .. import _core
from ..kernel import files
from .recyclers import Recycler

__all__ = ["Others", "rss"]

LEAST_MARGIN, PART_OF_MARGIN = 4 << 20, 32
"""What the program may take between two looks, and the kernel's own count may be wrong by."""
FORGETS = 16
"""A high figure fades by such a part with each look."""


def rss() -> int:
    """Bytes of this process in RAM; where there is no ``/proc``, its highest figure."""
    pages = (files.read("/proc/self/statm") or "").split()
    if len(pages) > 1:
        return int(pages[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Others:
    """As it was at each look."""

    def __init__(self) -> None:
        self.recent = self.peak = 0
        self.lowest: int | None = None

    def look(self) -> None:
        """Measure it. What the kernel took of volatile memory counts as there until it is missed; so this is too small
        by as much as that is too large, and their sum is right.
        """
        now = max(0, rss() - _core.residence()[0])
        self.recent = max(now, self.recent - (self.recent - now) // FORGETS)
        self.peak = max(now, self.peak)
        self.lowest = now if self.lowest is None else min(now, self.lowest)

    def left_by(self, recycler: Recycler) -> int:
        """What volatile memory may take, so that it leaves this process alone."""
        most = recycler.most - max(LEAST_MARGIN, recycler.most // PART_OF_MARGIN)
        if recycler.of == "peak":
            return max(0, most - self.peak)
        if recycler.of == "growth":
            most += self.lowest or 0
        return max(0, most - self.recent)
