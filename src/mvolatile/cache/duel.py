"""SIEVE or CLOCK: which of the two keeps more of what this program asks for?

They differ in where a value goes that was read since the hand passed. SIEVE leaves it in its place. The hand then
soon reaches new values, and gives up early those that nobody asks for a second time. CLOCK moves it among the
newest, so that a new value stays for a whole turn of the hand. SIEVE is ahead on most real traces, by up to five
points. It is far behind where second requests come late: nine points on the tail numbers of flights at a
quarter of their bytes (benchmarks/cache_hit_ratio.py). CLOCK is never far behind LRU. So SIEVE is used until CLOCK
wins trials; trials become rare while SIEVE keeps winning.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CLOCK", "SIEVE", "Duel"]

SIEVE, CLOCK = 0, 1
FIRST_TRIAL, LAST_TRIAL = 4, 64
"""Epochs between trials, at first and at most."""
CLEARLY = 0.005
TRIALS = 2
"""By how much a challenger must be better, and how many times running: what is asked for changes meanwhile."""


class Duel:
    """`policy` is what to use now. An epoch is two turnovers of the cache; the first one shows the policy before."""

    def __init__(self, counts: Callable[[], tuple[int, int]]) -> None:
        self.policy = self.champion = SIEVE
        self._counts = counts
        self._stored = 0
        self._measuring = False
        self._at_start = (0, 0)
        self._rate: float | None = None  # of the champion
        self._interval = self._until_trial = FIRST_TRIAL
        self._won = 0

    def stored(self, nbytes: int, limit: float) -> bool:
        """Note bytes that were stored while the cache was full; True when `policy` has changed."""
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
        was = self.policy
        self._judge((hits - before[0]) / asked)
        return self.policy != was

    def _judge(self, rate: float) -> None:
        if self.policy == self.champion:
            self._rate = rate if self._rate is None else (self._rate + rate) / 2
            self._until_trial -= 1
            if self._until_trial <= 0:
                self.policy = CLOCK if self.champion == SIEVE else SIEVE
            return
        if self._rate is None or rate > self._rate + CLEARLY:
            self._won += 1
        else:
            self._won = 0
            self._interval = min(2 * self._interval, LAST_TRIAL)
        if self._won == TRIALS:
            self._won = 0
            self.champion, self._rate = self.policy, rate
            self._interval = FIRST_TRIAL
        self.policy = self.champion
        self._until_trial = 1 if self._won else self._interval
