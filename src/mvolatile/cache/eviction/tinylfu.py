"""W-TinyLFU (Einziger, Friedman and Manes, 2017), a region at a time, with a window as large as is best now.

New values are in the window. There CLOCK gives what was used once a second turn, and what was used twice or more enters
the main part, as in S3-FIFO (Yang et al., SOSP 2023): beside victims that gathered counts for long, what has just
become popular would never win. The others are candidates for the main part, where most values are. The next one to go
there is the victim: by CLOCK with counters, so that what was used often stays for up to three passes. The candidate
takes its place if it was asked for more often lately, and else goes: so what is read once, or in a loop longer than the
cache, leaves what is used alone. `Sketch` says how often: it counts stores, and visits when the evictor passes. So a
hit costs nothing, and keys that are gone are known again.

A large window follows what is new, a small one keeps what is used often, and neither is best everywhere: see
`miniature.py`. With a window of all there is, this is CLOCK.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress

from ..._core import Sketch, hash_of, sample_number
from .miniature import Sample
from .policy import FRESH, KEPT, Figures, Policy, Queue, Region, Stay
from .worth import Worth

__all__ = ["WindowTinyLFU"]

AGAIN_IN_WINDOW, AGAIN_IN_MAIN = Stay(FRESH, 0), Stay(KEPT, 0)
PROVED = 2
"""So many visits in one turn of the window, and a value enters the main part without being compared."""
HALVED = tuple(Stay(KEPT, visits) for visits in range(4))
"""In the main part half of the visits stay, at most three: or a store might have to wait until all are passed eight
times over.
"""
TURNS = 4
"""Victims that were visited and stay, for each candidate: all might have been."""
ROUGHLY = 1 / 64
"""Of all bytes: by so much the window may be too large before values leave it without being compared."""
RESIZED = 1.15
LITTLE = 1
"""Powers of two."""


class WindowTinyLFU(Policy):
    """Two queues: window and main part."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(figures)
        self._queues: list[Queue] = [Queue(), Queue()]
        self._sealed = [0, 0]  # bytes
        self._sketch: Sketch | None = None  # from the first value that goes
        self._sample = Sample(figures)
        self._worth = Worth(figures)
        self._over = 0.0  # bytes of the window above its share
        self._turns = 0

    # ---- told

    def stored(self, key: Hashable, nbytes: int, cost: int) -> int:
        """All that is new enters the window."""
        key_hash, sample = hash_of(key), self._sample
        if self._sketch is not None:
            self._sketch.add(key_hash)
        if (number := sample_number(key_hash)) < sample.below:
            sample.stored(key, number)
        return FRESH

    def wanted(self, key: Hashable) -> int:
        """The sketch knows, and counts it."""
        return 0 if self._sketch is None else self._sketch.add(hash_of(key))

    def indifferent(self) -> float:
        """Until the cache is half full."""
        return self.figures.limit / 2 - self.figures.nbytes

    def sealed(self, region: Region) -> None:
        """By the queue that it was filled for."""
        queue, number = KEPT if region.queue else FRESH, region.number
        window, main = self._queues
        if number in window or number in main or not (window or main):
            self.left(region)
        self._queues[queue][number] = region
        self._sealed[queue] += region.used
        if self._sketch is not None:
            there = self.figures.entries
            if not self._sketch.entries / RESIZED <= there <= self._sketch.entries * RESIZED:
                with suppress(MemoryError):  # it counts a little worse
                    self._sketch.resize(there)

    def left(self, region: Region) -> None:
        """From whichever has it."""
        number = region.number
        for queue in (FRESH, KEPT):
            if number in self._queues[queue]:
                del self._queues[queue][number]
                self._sealed[queue] -= region.used
        if (
            not (self._queues[FRESH] or self._queues[KEPT])
            and self.figures.filling(FRESH) is self.figures.filling(KEPT) is None
        ):
            self._sample.forget()  # keys may have finalizers

    def mended(self) -> None:
        """Bytes are counted anew."""
        self._sealed = [sum(region.used for region in queue.values()) for queue in self._queues]

    # ---- asked

    def evict(self) -> Region | None:
        """The window's oldest, if it is too large or there is a candidate to be compared; else the main part's."""
        main, window = self._oldest(KEPT), self._oldest(FRESH)
        total, differs = self.figures.nbytes, self._worth.differs
        self._over = total - self._bytes_of_main(main) - self._sample.choice.share * total
        if (
            self._over >= ROUGHLY * total
            and not (differs and self._queues[KEPT])
            and self._shrink(ROUGHLY * total)
        ):
            main, window = self._oldest(KEPT), self._oldest(FRESH)
        if main is None or window is None:
            return window or main
        if self._over >= 0 and main.passed < len(main.keys):
            if differs or self._turns == TURNS or not main.visits(main.passed):
                self._turns = 0
                return window
            self._turns += 1  # the victim was visited: it stays, and another is the victim
        return main

    def visited(self, region: Region, slot: int) -> Stay | None:
        """Those that were visited stay where they are; a candidate may be better than the victim."""
        key, visits, sketch, sample = region.keys[slot], region.visits(slot), self._sketch, self._sample
        key_hash = hash_of(key)
        count = self._count(key_hash, visits) if sketch is None else sketch.add(key_hash, visits)
        stay = self._verdict(region, slot, visits, count)
        if (number := sample_number(key_hash)) < sample.below:
            sample.passed(key, number, visits, 0 if stay is None else stay.visits)
        return stay

    def _verdict(self, region: Region, slot: int, visits: int, count: int) -> Stay | None:
        in_window = region.queue == FRESH and (region.is_open or region.number in self._queues[FRESH])
        worth = self._worth.see(region, slot)
        if self._worth.differs:
            return self._by_worth(self._worth.of(worth, count), visits > 0, in_window)
        if visits and in_window:
            return AGAIN_IN_MAIN if visits >= PROVED and self._sample.choice.share < 1 else AGAIN_IN_WINDOW
        if visits:
            return HALVED[min(visits // 2, len(HALVED) - 1)]
        if in_window and (
            self._over >= ROUGHLY * self.figures.nbytes + region.size(slot) or self._is_better(count)
        ):
            return AGAIN_IN_MAIN
        return None

    def _is_better(self, count: int) -> bool:
        """A candidate, than the next victim."""
        choice = self._sample.choice
        return (
            count >= choice.enough if choice.enough else count > self._count_of_victim() + choice.stubbornness
        )

    def _count(self, key_hash: int, times: int) -> int:
        sketch = self._sketch
        if sketch is None:
            try:
                sketch = Sketch(self.figures.entries)
            except MemoryError:
                sketch = Sketch(0)
            self._sketch = sketch
        return sketch.add(key_hash, times)

    def _by_worth(self, worth: float, visited: bool, in_window: bool) -> Stay | None:
        """In the window what was visited stays, unless it is worth little; a candidate must be worth more than what
        goes from the main part.
        """
        if not in_window:
            return AGAIN_IN_MAIN if self._worth.stays(worth) else None
        if visited and worth >= (self._worth.level or 0.0) - LITTLE:
            return AGAIN_IN_WINDOW
        return AGAIN_IN_MAIN if self._worth.enters(worth) else None

    def _count_of_victim(self) -> int:
        """At least one."""
        region, sketch = self._oldest(KEPT), self._sketch
        if region is not None and sketch is not None:
            keys, lives = region.keys, self.figures.lives
            for slot in range(region.passed, len(keys)):
                if lives(region, slot):
                    return (sketch.estimate(hash_of(keys[slot])) or 1) + region.visits(slot)
        return -2  # there is none: whoever comes is better

    def _shrink(self, roughly: float) -> bool:
        """The window is far too large: what is in its oldest regions is in the main part from now on, without a copy.
        A cache that is full for the first time is all window.

        Not where worth differs. The bad schedule: one large value makes the window far too large, and all that stands
        before it would enter the main part unasked; what is dear would go from there for it.
        """
        window, main = self._queues
        shrunk = False
        while window:
            region = next(iter(window.values()))
            left = region.used - region.emptied
            if self._over < roughly + left:
                break
            main[region.number] = window.pop(region.number)
            self._sealed[FRESH] -= region.used
            self._sealed[KEPT] += region.used
            self._over -= left
            shrunk = True
        return shrunk

    def _oldest(self, queue: int) -> Region | None:
        """Or what is being filled, as far as it has not been passed over."""
        for region in self._queues[queue].values():
            return region
        filling = self.figures.filling(queue)
        return None if filling is None or filling.passed >= len(filling.keys) else filling

    def _bytes_of_main(self, oldest: Region | None) -> int:
        filling = self.figures.filling(KEPT)
        there = self._sealed[KEPT] + (0 if filling is None else filling.used - filling.emptied)
        return there if oldest is None or oldest is filling else there - oldest.emptied
