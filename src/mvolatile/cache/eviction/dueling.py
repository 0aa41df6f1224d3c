"""SIEVE or CLOCK: which of the two keeps more of what this program asks for?

They differ in where a value goes that was visited. SIEVE is ahead on most real traces, by up to five points. It is far
behind where second requests come late: nine points on the tail numbers of flights at a quarter of their bytes
(benchmarks/cache_hit_ratio.py). CLOCK is never far behind LRU. So SIEVE is used until CLOCK wins trials; trials become
rare while SIEVE keeps winning.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from math import isinf

from .clock import Clock
from .policy import Figures, Policy, Queue, Region, Stay
from .sieve import Sieve

__all__ = ["CHALLENGER", "CHAMPION", "LAST_TRIAL", "Dueling", "Trials"]

CHAMPION, CHALLENGER = 0, 1
"""Who is which at first."""
FIRST_TRIAL, LAST_TRIAL = 4, 64
"""Epochs between trials, at first and at most."""
CLEARLY = 0.005
TRIALS = 2
"""By how much a challenger must be better, and how many times running: what is asked for changes meanwhile."""


class Trials:
    """`active` is which of the two to use now. An epoch is two turnovers of the cache; the first one shows what was
    used before.
    """

    def __init__(self, counts: Callable[[], tuple[int, int]]) -> None:
        self.active = self.champion = CHAMPION
        self._counts = counts
        self._stored = 0
        self._measuring = False
        self._at_start = (0, 0)
        self._rate: float | None = None  # of the champion
        self._interval = self._until_trial = FIRST_TRIAL
        self._won = 0

    def stored(self, nbytes: int, limit: float) -> bool:
        """Note bytes that were stored while the cache was full; True when `active` has changed."""
        self._stored += nbytes
        if self._stored < limit:
            return False
        self._stored = 0
        hits, misses = self._counts()
        before, self._at_start = self._at_start, (hits, misses)
        self._measuring = not self._measuring
        if self._measuring:
            return False
        asked = hits - before[0] + misses - before[1]
        if asked <= 0:
            return False  # the statistics were cleared meanwhile, or nobody reads
        was = self.active
        self.judge((hits - before[0]) / asked)
        return self.active != was

    def judge(self, rate: float) -> None:
        """An epoch's hit ratio."""
        if self.active == self.champion:
            self._rate = rate if self._rate is None else (self._rate + rate) / 2
            self._until_trial -= 1
            if self._until_trial <= 0:
                self.active = CHALLENGER if self.champion == CHAMPION else CHAMPION
            return
        if self._rate is None or rate > self._rate + CLEARLY:
            self._won += 1
        else:
            self._won = 0
            self._interval = min(2 * self._interval, LAST_TRIAL)
        if self._won == TRIALS:
            self._won = 0
            self.champion, self._rate = self.active, rate
            self._interval = FIRST_TRIAL
        self.active = self.champion
        self._until_trial = 1 if self._won else self._interval


class Dueling(Policy):
    """Two policies, one of which has the regions in its order."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(figures)
        self.trials = Trials(figures.counts)
        self._all: tuple[Policy, Policy] = Sieve(figures), Clock(figures)
        self._active: Policy = self._all[CHAMPION]

    def stored(self, key: Hashable, nbytes: int, cost: float) -> int:
        """Counted while the cache is full."""
        limit, held = self.figures.limit, self.figures.nbytes
        if not isinf(limit) and held > limit / 2 and self.trials.stored(nbytes, max(limit, held)):
            self.use(self.trials.active)
        return self._active.stored(key, nbytes, cost)

    def use(self, which: int) -> None:
        """From now on."""
        before, self._active = self._active, self._all[which]
        if before is not self._active:
            regions = list(before.order())
            self._active.adopt(regions)
            for region in regions:
                before.left(region)

    def sealed(self, region: Region) -> None:
        """As the active one does."""
        self._active.sealed(region)

    def left(self, region: Region) -> None:
        """From whichever has it."""
        for policy in self._all:
            policy.left(region)

    def evict(self) -> Region | None:
        """As the active one does."""
        return self._active.evict()

    def visited(self, region: Region, slot: int) -> Stay | None:
        """As the active one does."""
        return self._active.visited(region, slot)

    def queues(self) -> list[Queue]:
        """Of the active one."""
        return self._active.queues()

    def order(self) -> Iterator[Region]:
        """Of the active one."""
        return self._active.order()
