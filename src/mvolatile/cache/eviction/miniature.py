"""Miniature simulations (Waldspurger et al., USENIX ATC 2017): small caches that see a sample of the keys, each with
another share for its window or another rule for what enters the main part, tell which would bring the most hits now.

A key is sampled by its hash, so that all requests for it are seen or none. Of stores the miniatures are told. Of hits
nobody is: the visits of sampled values are looked up, a few at each sampled store, some times while the cache is
filled once. That is late and out of order by little, beside the time that a value stays. With the exact order of all
requests they decide no better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import exp
from typing import NamedTuple

from ..._core import Miniatures
from .policy import Figures

__all__ = ["CHOICES", "Choice", "Sample"]


class Choice(NamedTuple):
    """One way to be."""

    share: float
    """Of all bytes, for the window."""
    stubbornness: int = 0
    """By how much a candidate must be ahead of the one it is to replace, beside one."""
    enough: int = 0
    """Or how often it must have been asked for, whatever the other was; 0 where they are compared."""


CHOICES = (Choice(0.01, stubbornness=1), Choice(0.06), Choice(0.06, enough=2), Choice(0.4), Choice(1.0))
"""The first is for loops and scans: there a tie of counts that are out of date would let a loop in. The third lets in
what comes back, as ghosts do in S3-FIFO: for what becomes popular all at once. The last is CLOCK, which is near LRU.
"""
FIRST = 1
SAMPLED = 128
"""Entries of a miniature, up to twice as many."""
ONE_IN, FEWEST = 4, 8
"""One in four keys is sampled at most, but in caches so small that a miniature would have less than eight entries."""
LOOKS = 8
"""Sampled values whose visits are looked up, at each sampled store."""
CLEARLY, TO_ALL = 0.1, 0.5
"""By so many hits for each entry another must be ahead: a change costs about the content of the cache. A window
of all there is must be ahead by more, since all of the main part goes for it.
"""
RELUCTANT, SETTLED = 8.0, 100
"""A change doubles how far ahead the next one must be, up to so many times; that is forgotten after so many requests an
entry. Else a scan forward and back would have two that are equal take turns, and each pay for it.
"""
WORDS = 1 << 32


class Sample:
    """`choice` is the best one."""

    def __init__(self, figures: Figures) -> None:
        self.choice = CHOICES[FIRST]
        self._reluctance = 1.0
        self._requests = 0  # since that was brought up to date
        self._figures = figures
        self.below = WORDS
        """Keys whose `sample_number` is below are sampled."""
        # Sampled values that were there, and their visits then. These keep their keys alive, some hundreds at most.
        self._seen: dict[int, tuple[Hashable, int]] = {}
        self._looks: deque[int] = deque()
        self._miniatures: Miniatures | None = None  # from the first value that goes

    def stored(self, key: Hashable, number: int) -> None:
        """A sampled value is to be stored."""
        if self._miniatures is not None:
            entries = self._size()
            self._look(min(LOOKS, len(self._looks)), entries)
            self._request(number, 1, entries)
            self._decide(self._miniatures.hits(), entries)
        elif self._figures.entries * self.below > 2 * SAMPLED * WORDS:
            self._halve()
        if number not in self._seen:
            self._looks.append(number)
        self._seen[number] = key, 0

    def forget(self) -> None:
        """The values are gone, all of them; what was learnt stays."""
        self._seen.clear()
        self._looks.clear()

    def passed(self, key: Hashable, number: int, visits: int, left: int) -> None:
        """The evictor passed over a sampled value. If it stays, visits count on from those that were `left` to it.
        It may have been stored without our being told, long before the cache was full.
        """
        if self._miniatures is None:
            self._begin()
        if not visits:
            return
        if number not in self._seen:
            self._looks.append(number)
        _, before = self._seen.get(number, (key, 0))
        self._seen[number] = key, left
        if visits > before:
            self._request(number, visits - before, self._size())

    def _begin(self) -> None:
        """The cache is full: what was sampled is in all miniatures."""
        self._miniatures = Miniatures(CHOICES)
        entries = self._size()
        for number in list(self._looks):
            self._request(number, 1, entries)
        self._look(len(self._looks), entries)

    def _request(self, number: int, times: int, entries: float) -> None:
        if self._miniatures is not None:
            self._requests += 1
            self._miniatures.request(number, times, entries)

    def _look(self, count: int, entries: float) -> None:
        """At those that were looked at longest ago."""
        looks, seen, visits_of = self._looks, self._seen, self._figures.visits
        for _ in range(count):
            number = looks.popleft()
            known = seen.pop(number, None)
            if known is None or (visits := visits_of(known[0])) is None:
                continue
            looks.append(number)
            if visits == known[1]:
                seen[number] = known
                continue
            seen[number] = known[0], visits
            if visits > known[1]:
                self._request(number, visits - known[1], entries)

    def _size(self) -> float:
        """Entries of a miniature. Where that would be too many, half of the keys are sampled no more."""
        there = self._figures.entries
        while there * self.below > 2 * SAMPLED * WORDS or (
            self.below * ONE_IN > WORDS and self.below * there >= 2 * FEWEST * WORDS
        ):
            self._halve()
        return max(FEWEST / 2, there * self.below / WORDS)

    def _halve(self) -> None:
        self.below //= 2
        self._seen = {number: seen for number, seen in self._seen.items() if number < self.below}
        self._looks = deque(self._seen)
        if self._miniatures is not None:
            self._miniatures.keep(self.below)

    def _decide(self, hits: tuple[float, ...], entries: float) -> None:
        best = CHOICES[hits.index(max(hits))]
        ahead = max(hits) - hits[CHOICES.index(self.choice)]
        self._reluctance = 1 + (self._reluctance - 1) * exp(-self._requests / (SETTLED * entries))
        self._requests = 0
        if ahead > (TO_ALL if best.share == 1 else CLEARLY) * self._reluctance * entries:
            self.choice, self._reluctance = best, min(RELUCTANT, 2 * self._reluctance)
