"""Miniature simulations (Waldspurger et al., USENIX ATC 2017): small caches that see a sample of the keys, each with
another share for its window, tell which share would bring the most hits now.

A key is sampled by its hash, so that all requests for it are seen or none. Of stores the miniatures are told. Of hits
nobody is: the visits of sampled values are looked up, a few at each sampled store, some times while the cache is
filled once. That is late and out of order by little, beside the time that a value stays. With the exact order of all
requests they decide no better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from .policy import Figures

__all__ = ["SHARES", "Miniature", "Miniatures"]

SHARES = (0.01, 0.06, 0.15, 0.4, 1.0)
"""Of all bytes, for the window. The first is for loops and scans; the last is CLOCK, which is near LRU."""
FIRST = 1
SAMPLED = 128
"""Entries of a miniature, up to twice as many."""
ONE_IN, FEWEST = 4, 8
"""One in four keys is sampled at most, but in caches so small that a miniature would have less than eight entries."""
LOOKS = 8
"""Sampled values whose visits are looked up, at each sampled store."""
MEMORY = 24
"""After so many requests for each entry of a miniature a hit counts half."""
CLEARLY = 0.1
"""By so many hits for each entry another share must be ahead: a change costs about the content of the cache."""
PERIOD = 20
MOST = 15
WORDS = 1 << 32


def stubbornness(share: float) -> int:
    """By how much a new key must be ahead of the one it is to replace, beside one. With the smallest window a tie of
    counts that are out of date would let a loop in.
    """
    return 1 if share < SHARES[1] else 0


class Counts:
    """How often sampled keys were asked for, exactly."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._counted = 0

    def add(self, key: int, times: int, entries: float) -> None:
        """Halved where a sketch would be."""
        self.counts[key] = min(MOST, self.counts.get(key, 0) + times)
        self._counted += times
        if self._counted >= PERIOD * entries:
            self._counted //= 2
            self.counts = {key: count >> 1 for key, count in self.counts.items() if count > 1}

    def get(self, key: int) -> int:
        """Up to `MOST`."""
        return self.counts.get(key, 0)


class Miniature:
    """What `WindowTinyLFU` does, value by value, on numbers alone."""

    __slots__ = ("_main", "_share", "_visits", "_window", "hits")

    def __init__(self, share: float) -> None:
        self.hits = 0.0
        self._share = share
        self._window: deque[int] = deque()
        self._main: deque[int] = deque()
        self._visits: dict[int, int] = {}

    def access(self, key: int, times: int, entries: float, counts: Counts) -> bool:
        """Requests in a row; whether the first was a hit."""
        visits = self._visits
        before = visits.get(key)
        if before is not None:
            visits[key] = before + times
            return True
        while len(visits) >= entries and (self._window or self._main):
            self._pass_one(entries, counts)
        self._window.append(key)
        visits[key] = times - 1
        return False

    def _pass_one(self, entries: float, counts: Counts) -> None:
        window, main, visits = self._window, self._main, self._visits
        least = max(1.0, self._share * entries)
        if len(window) < least and main:
            key = main.popleft()
            if visits.get(key):
                visits[key] = 0
                main.append(key)
            else:
                visits.pop(key, None)
            return
        key = window.popleft()
        if visits.get(key):
            visits[key] = 0
            window.append(key)
        elif len(window) >= least and self._share < 1:
            main.append(key)
        elif main and counts.get(key) > max(1, counts.get(main[0])) + visits.get(main[0], 0) + stubbornness(
            self._share
        ):
            visits.pop(main.popleft(), None)
            main.append(key)
        else:
            visits.pop(key, None)
            if main and visits.get(main[0]):  # the next one is compared with another
                visits[main[0]] = 0
                main.rotate(-1)

    def keep(self, keys: set[int]) -> None:
        """Only those are sampled from now on."""
        self._window = deque(key for key in self._window if key in keys)
        self._main = deque(key for key in self._main if key in keys)
        self._visits = {key: visits for key, visits in self._visits.items() if key in keys}


class Miniatures:
    """`share` is the best one."""

    def __init__(self, figures: Figures) -> None:
        self.share = SHARES[FIRST]
        self._figures = figures
        self._below = WORDS  # hashes that are sampled
        self._full = False
        self._seen: dict[
            int, tuple[Hashable, int]
        ] = {}  # sampled values that were there, and their visits then
        self._looks: deque[int] = deque()
        self._counts = Counts()
        self._all = [Miniature(share) for share in SHARES]
        self._weight = 1.0

    def samples(self, key_hash: int) -> int | None:
        """What stands for one of the sampled keys; None for others."""
        number = (
            key_hash * 0x9E3779B97F4A7C15 >> 20
        ) * 0x85EBCA6B >> 12 & WORDS - 1  # small integers are their own hashes
        return number if number < self._below else None

    def stored(self, key: Hashable, number: int) -> None:
        """A sampled value is to be stored."""
        entries = self._size()
        for _ in range(min(LOOKS, len(self._looks))):
            self._look_at(self._looks.popleft(), entries)
        if number not in self._seen:
            self._looks.append(number)
        self._seen[number] = key, 0
        self._requested(number, 1, entries)
        if self._full:
            self._decide(entries)

    def forget(self) -> None:
        """The values are gone, all of them; what was learnt stays."""
        self._seen.clear()
        self._looks.clear()

    def _look_at(self, number: int, entries: float) -> None:
        key, before = self._seen.pop(number, (None, 0))
        visits = self._figures.visits(key)
        if visits is None:
            return
        self._looks.append(number)
        self._seen[number] = key, visits
        if visits > before:
            self._requested(number, visits - before, entries)

    def passed(self, number: int, visits: int) -> None:
        """The evictor passes over a sampled value: its visits are counted anew, if it stays."""
        self._full = True
        key, before = self._seen.get(number, (None, 0))
        if number in self._seen:
            self._seen[number] = key, 0
        if visits > before:
            self._requested(number, visits - before, self._size())

    def _size(self) -> float:
        """Entries of a miniature. Where that would be too many, half of the keys are sampled no more."""
        there = self._figures.entries
        while there * self._below > 2 * SAMPLED * WORDS or (
            self._full and self._below * ONE_IN > WORDS and self._below * there >= 2 * FEWEST * WORDS
        ):
            self._below //= 2
            self._thin_out()
        if not self._full:
            return float("inf")
        return max(ONE_IN, there * self._below / WORDS)

    def _thin_out(self) -> None:
        self._seen = {number: seen for number, seen in self._seen.items() if number < self._below}
        self._looks = deque(self._seen)
        counts = self._counts.counts
        self._counts.counts = {key: count for key, count in counts.items() if key < self._below}
        for miniature in self._all:
            miniature.keep(set(self._counts.counts))

    def _requested(self, key: int, times: int, entries: float) -> None:
        self._counts.add(key, times, entries)
        for miniature in self._all:
            if miniature.access(key, times, entries, self._counts):
                miniature.hits += self._weight
        self._weight *= 1 + 0.7 / max(400.0, MEMORY * min(entries, 2 * SAMPLED))
        if self._weight > WORDS:
            self._weight /= WORDS
            for miniature in self._all:
                miniature.hits /= WORDS

    def _decide(self, entries: float) -> None:
        now = self._all[SHARES.index(self.share)].hits
        best = max(range(len(SHARES)), key=lambda which: self._all[which].hits)
        if self._all[best].hits - now > CLEARLY * entries * self._weight:
            self.share = SHARES[best]
