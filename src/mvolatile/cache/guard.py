"""A guard against thrash: with far too little memory values are stored, given up and made again before anybody asks for
them, and storing costs more than hits save.

Now and then the guard compares the two, in seconds. While storing does not pay it halves the *share* of keys whose
values are stored; while it pays well it doubles it, to all of them. Whose turn it is the key's hash tells, so a share
is always the same keys: those of a share that fits stay, and are hits. A doorkeeper that lets in what is asked for a
second time would let in all of a loop. Keys that were asked for often lately are stored whatever their hash: those of a
working set that changed, and the popular ones.

The bad schedules. A guard that looks at hits alone would close on a scan and starve what comes after it: here a share
stays open, and where its values are asked for it grows. One that opens whenever the little that it stores pays would
close and open in turns: after each attempt that failed it waits longer for the next. A cache that is being filled has
no hits and is no thrash: only stores for which others had to go, or while the kernel takes values, are looked at. And
while nothing at all is asked for again nobody knows whether that will be so: all is stored, and who asks for it at
once finds it.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Guard"]

LEAST = 1 / 64
"""Of the keys are always stored."""
FEWEST, MOST = 64, 8192
"""Stores that were wanted, between two comparisons: a quarter as many as there are entries, within these."""
PAYS, PAYS_WELL = 1.5, 12.0
"""Seconds saved for each second of storing: below the first the share is halved (below a third of it, halved twice),
from the second on doubled.
"""
OFTEN, OFTENEST = 3, 15
"""Asked for so often lately, for all keys, and the more the smaller the share: then it is stored. A sketch counts no
further than the second.
"""
OUTLIER = 4
"""No store counts for more than so many usual ones: a thread that had to wait for its turn tells nothing."""
PATIENCE = 8
"""Comparisons in which it pays well, at most, until the share is doubled."""


class Usage(Protocol):
    """What hits save. `Lookup` has it."""

    @property
    def saved(self) -> float:
        """Seconds."""
        ...

    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        ...


class Guard:
    """Of one cache. `share` is the part of keys that are stored. Told without a lock: it may count a little wrong."""

    def __init__(self, usage: Usage) -> None:
        self.share = 1.0
        self._usage = usage
        self._patience = self._well = 0
        self._usual = 0.0
        self._begin()

    def _begin(self) -> None:
        self._stores = self._refused = self._tight = 0
        self._seconds = 0.0
        self._saved, self._hits = self._usage.saved, self._usage.counts()[0]

    def admits(self, key_hash: int, count: int, entries: int) -> bool:
        """Whether a value is to be stored whose key was asked for so often lately."""
        if (key_hash * 0x9E3779B97F4A7C15 >> 8) % 65536 < self.share * 65536:
            return True
        if count >= min(OFTENEST, OFTEN / self.share):
            return True
        self._refused += 1
        self._judge(entries)
        return False

    def stored(self, seconds: float, tight: bool, entries: int) -> None:
        """A store took so long; `tight` if others had to go for it, or the kernel takes values."""
        self._stores += 1
        self._tight += tight
        self._usual += (
            (min(seconds, OUTLIER * self._usual or seconds) - self._usual) / 16 if self._usual else seconds
        )
        self._seconds += min(seconds, OUTLIER * self._usual)
        self._judge(entries)

    def _judge(self, entries: int) -> None:
        if self._stores + self._refused < min(MOST, max(FEWEST, entries // 4)):
            return
        saved, hits = self._usage.saved - self._saved, self._usage.counts()[0] - self._hits
        if hits and 2 * self._tight > self._stores and saved < PAYS * self._seconds:
            if self.share < 1:
                self._patience = min(PATIENCE, 2 * self._patience + 1)
            less = 4 if 3 * saved < PAYS * self._seconds else 2
            self.share, self._well = max(LEAST, self.share / less), 0
        elif self.share < 1 and (2 * self._tight <= self._stores or saved >= PAYS_WELL * self._seconds):
            self._well += 1
            if self._well > self._patience:
                self.share, self._well = self.share * 2, 0
                self._patience = 0 if self.share == 1 else self._patience
        self._begin()
