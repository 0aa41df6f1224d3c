"""Rebuild pressure: the share of time in which somebody makes again what the kernel took, or what a cache without a
bound of its own gave up for it.

A purge leaves no trace that the kernel's pressure figures (PSI) show: nothing is paged in, a program only computes.
So this counts as PSI does (kernel/sched/psi.c, Linux 4.20): a total of time in which at least one caller makes such a
value, and its averages over 10, 60 and 300 seconds, which forget by exp(-t / window). Nothing runs for that: it is
brought up to date when somebody begins, ends or asks.
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

__all__ = ["NONE", "WINDOWS", "RebuildPressure", "Rebuilds"]

WINDOWS = (10.0, 60.0, 300.0)
"""Seconds that the averages are over."""

PERIOD = 2.0
"""Seconds; of what is shorter only the share in it is known, as in PSI."""

FEWEST, MOST = 1 << 8, 1 << 16
"""Places for lost keys, at first and at last; a quarter of them are of use."""


class RebuildPressure(NamedTuple):
    """Shares from 0 to 1, and the seconds of all time."""

    avg10: float
    avg60: float
    avg300: float
    total: float


NONE = RebuildPressure(0.0, 0.0, 0.0, 0.0)


class Rebuilds:
    """Of one cache: which keys the kernel took, and the time in which they are made again.

    A key is remembered by 16 bits of its hash, in a table by hash: who comes later has the place, so a loss may be
    forgotten, and one in 65,536 first makings of keys counts as another's. Where many lose their places, the table
    begins anew, twice as large. A lock is held where something was lost alone; a hit never comes here.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._taken = array("H")
        self._losses = self._crowded = 0  # of these, how many took another's place
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._running = 0
        self._total = 0.0
        self._now = self._folded = self.clock()
        self._total_folded = 0.0
        self._averages = [0.0] * len(WINDOWS)

    def lost(self, key_hash: int) -> None:
        """The kernel took that key's value."""
        taken = self._taken
        if not taken or (self._crowded > len(taken) // 8 and len(taken) < MOST):
            taken = self._taken = array("H", bytes(2 * max(FEWEST, 2 * len(taken))))
            self._losses = self._crowded = 0
        if self._losses >= len(taken):
            self._losses = self._crowded = 0
        self._losses += 1
        at, tag = _place(key_hash, len(taken))
        self._crowded += taken[at] not in (0, tag)
        taken[at] = tag

    def begin(self, key_hash: int) -> bool:
        """A value is being made; whether it is one that was lost. If so, call `end`."""
        taken = self._taken
        if not taken:
            return False
        at, tag = _place(key_hash, len(taken))
        if taken[at] != tag:
            return False
        taken[at] = 0
        with self._lock:
            self._go_on()
            self._running += 1
        return True

    def end(self) -> None:
        """It is made, or cannot be."""
        with self._lock:
            self._go_on()
            self._running = max(0, self._running - 1)

    def pressure(self) -> RebuildPressure:
        """At this moment."""
        with self._lock:
            self._go_on()
            passed = self._now - self._folded
            averages = self._averages if passed <= 0 else self._averages_after(passed)
            avg10, avg60, avg300 = averages
            return RebuildPressure(avg10, avg60, avg300, self._total)

    def after_fork(self) -> None:
        """In the child, where none of those who make values are, nor their locks."""
        self._lock = threading.Lock()
        self._reset()

    def _go_on(self) -> None:
        now = self.clock()
        if self._running:
            self._total += now - self._now
        self._now = now
        passed = now - self._folded
        if passed >= PERIOD:
            self._averages = self._averages_after(passed)
            self._folded, self._total_folded = now, self._total

    def _averages_after(self, passed: float) -> list[float]:
        share = min(1.0, (self._total - self._total_folded) / passed)
        return [
            share + (before - share) * math.exp(-passed / window)
            for before, window in zip(self._averages, WINDOWS, strict=True)
        ]


def _place(key_hash: int, size: int) -> tuple[int, int]:
    """Where a key is in a table, and what stands there for it; 0 stands for none."""
    mixed = key_hash * 0x9E3779B97F4A7C15
    return (mixed >> 24) % size, (mixed >> 8 & 0xFFFF) or 1
