"""What values are worth: use x cost / bytes, as logarithms to the base of two, and from where on one stays.

GDSF (Cherkasova, 1998) keeps all values in order of that, and has a level that rises with what goes. Here no value has
a place in an order, and a hit costs nothing: the evictor passes over values in turn, and the level is where a quarter
of the bytes that it passes over in the main part are below. Uses are the sketch's: it knows those from before, too.

Of the bytes, not of the values. The bad schedule: most values are small and dear, a few are large and cheap, and these
are what most of the memory is given to, in turns. A quarter of the values would be of the small ones: they would go to
make room for a large one, and be made again for seconds.

Where only the number of entries is bounded a value is worth what it costs, whatever its size. A cost that nobody told
is taken for what others cost. Where all are worth about the same by cost and bytes, there is nothing to know here, and
who asks decides by use alone.
"""

from __future__ import annotations

from math import inf, log2

from ..cost import STEPS
from .policy import Figures, Region

__all__ = ["Worth"]

ALIKE = 0.4
"""The variance of all, in powers of two: up to here they are alike. The noise of measurements is less."""
MEMORY = 1 / 128
"""The part of mean and variance that each value seen takes, after the first."""
GO = 0.25
"""So many of those passed over in the main part are to go."""
STEP, STREAK = 0.08, 32
"""By how much the level moves for each; twice as much after so many running that stayed: a store waits for them."""
TRIES = 16
"""Candidates that do not enter lower it as much as one that does."""
MOST = 8.0
"""It moves by a value's part of the usual bytes, up to so many times."""
UNUSED = 0.3
"""Uses of a value of which the sketch knows none any more."""


class Worth:
    """`level` is the one from which on a value stays."""

    def __init__(self, figures: Figures) -> None:
        self.level: float | None = None
        self._figures = figures
        self._usual = 0.0  # cost
        self._mean = self._variance = 0.0
        self._part = 1.0
        self._streak = 0
        self._bytes = 0.0  # that are usual in the main part
        self._size = 1  # of the value that was seen last
        self.differs = False
        """Whether values are apart by cost and bytes."""

    def see(self, region: Region, slot: int) -> float:
        """What a use of a value is worth a byte; and learn what is usual."""
        cost = region.cost(slot)
        if cost:
            took = cost / STEPS
            self._usual += MEMORY * 8 * (took - self._usual) if self._usual else took
        else:
            took = self._usual
        size = self._size = 1 if self._figures.limit == inf else region.size(slot) or 1
        worth = took - log2(size)
        part = self._part
        if part > MEMORY:
            self._part = max(MEMORY, part / (1 + part))  # of the first few an equal part for each
        self._mean += part * (worth - self._mean)
        self._variance += part * ((worth - self._mean) ** 2 - self._variance)
        self.differs = self._variance > ALIKE
        return worth

    def of(self, worth: float, count: int) -> float:
        """With its uses."""
        worth += log2(count or UNUSED)
        if self.level is None:
            self.level = min(worth, self._mean)
        return worth

    def enters(self, worth: float) -> bool:
        """Whether a candidate does, the value seen last. Where none does for long, the main part is not passed over: so
        the level falls.
        """
        level = self.level or 0.0
        if worth > level:
            return True
        self.level = level - STEP / TRIES * self._share()
        return False

    def stays(self, worth: float) -> bool:
        """Whether a value of the main part does, the one seen last; the level moves."""
        level, size = self.level or 0.0, self._size
        self._bytes += MEMORY * (size - self._bytes) if self._bytes else size
        if worth >= level:
            self.level = level + STEP * GO * 2 ** (self._streak // STREAK) * self._share()
            self._streak += 1
            return True
        self.level = level - STEP * (1 - GO) * self._share()
        self._streak = 0
        return False

    def _share(self) -> float:
        return min(MOST, self._size / self._bytes) if self._bytes else 1.0
