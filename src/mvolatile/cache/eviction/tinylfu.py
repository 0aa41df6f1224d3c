"""W-TinyLFU (Einziger, Friedman and Manes, 2017), a region at a time, with a window as large as is best now.

New values are in the window. There CLOCK gives those that are used a second turn; the others are candidates for the
main part, where most values are. The next one to go there, by CLOCK too, is the victim. The candidate takes its place
if it was asked for more often lately, and else goes: so what is read once, or in a loop longer than the cache, leaves
what is used alone. `Sketch` says how often: it counts stores, and visits when the evictor passes. So a hit costs
nothing, and keys that are gone are known again.

A large window follows what is new, a small one keeps what is used often, and neither is best everywhere: see
`miniature.py`. With a window of all there is, this is CLOCK.
"""

from __future__ import annotations

from collections.abc import Hashable

from ..._core import Sketch
from .miniature import Miniatures, stubbornness
from .policy import FRESH, KEPT, Figures, Policy, Queue, Region, Stay

__all__ = ["WindowTinyLFU"]

AGAIN_IN_WINDOW, AGAIN_IN_MAIN = Stay(FRESH, 0), Stay(KEPT, 0)
TURNS = 4
"""Victims that were visited and stay, for each candidate: all might have been."""
ROUGHLY = 1 / 64
"""Of all bytes: by so much the window may be too large before values leave it without being compared."""
RESIZED = 1.15


class WindowTinyLFU(Policy):
    """Two queues: window and main part."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(figures)
        self._queues: list[Queue] = [Queue(), Queue()]
        self._sealed = [0, 0]  # bytes
        self._sketch: Sketch | None = None  # from the first value that goes
        self._miniatures = Miniatures(figures)
        self._over = 0.0  # bytes of the window above its share
        self._turns = 0

    # ---- told

    def stored(self, key: Hashable, nbytes: int, cost: float) -> int:
        """All that is new enters the window."""
        key_hash = hash(key)
        if self._sketch is not None:
            self._sketch.add(key_hash)
        if (number := self._miniatures.samples(key_hash)) is not None:
            self._miniatures.stored(key, number)
        return FRESH

    def sealed(self, region: Region) -> None:
        """By the queue that it was filled for."""
        self.left(region)
        queue = min(region.queue, KEPT)
        self._queues[queue][region.number] = region
        self._sealed[queue] += region.used

    def left(self, region: Region) -> None:
        """From whichever has it."""
        for queue, regions in enumerate(self._queues):
            if regions.pop(region.number, None) is not None:
                self._sealed[queue] -= region.used
        if not any(self._queues) and self.figures.filling(FRESH) is self.figures.filling(KEPT) is None:
            self._miniatures.forget()  # keys may have finalizers

    # ---- asked

    def evict(self) -> Region | None:
        """The window's oldest, if it is too large or there is a candidate to be compared; else the main part's."""
        main, window = self._oldest(KEPT), self._oldest(FRESH)
        self._begin()
        total = self.figures.nbytes
        self._over = total - self._bytes_of_main(main) - self._miniatures.share * total
        if main is None:
            return window
        if window is None or self._over < 0:
            return main
        if self._turns < TURNS and self._over < ROUGHLY * total and self._rival(main)[1]:
            self._turns += 1
            return main
        self._turns = 0
        return window

    def visited(self, region: Region, slot: int) -> Stay | None:
        """Those that were visited stay where they are; a candidate may be better than the victim."""
        assert self._sketch is not None
        key, visits = region.keys[slot], region.visits(slot)
        key_hash = hash(key)
        if visits:
            self._sketch.add(key_hash, visits)
        if (number := self._miniatures.samples(key_hash)) is not None:
            self._miniatures.passed(number, visits)
        if region.queue != FRESH:
            return AGAIN_IN_MAIN if visits else None
        if visits:
            return AGAIN_IN_WINDOW
        if self._over >= ROUGHLY * self.figures.nbytes + region.size(slot):
            self._sketch.add(key_hash, 0 if self._sketch.estimate(key_hash) else 1)
            return AGAIN_IN_MAIN
        main = self._oldest(KEPT)
        if main is not None and self._sketch.estimate(key_hash) > self._rival(main)[0]:
            return AGAIN_IN_MAIN
        return None

    def _begin(self) -> None:
        entries = self.figures.entries
        if self._sketch is None:
            self._sketch = Sketch(entries)
        elif not self._sketch.entries / RESIZED <= entries <= self._sketch.entries * RESIZED:
            self._sketch.resize(entries)

    def _oldest(self, queue: int) -> Region | None:
        """Or what is being filled, as far as it has not been passed over."""
        region = next(iter(self._queues[queue].values()), None) or self.figures.filling(queue)
        return None if region is None or (region.is_open and region.passed >= len(region.keys)) else region

    def _bytes_of_main(self, oldest: Region | None) -> int:
        filling = self.figures.filling(KEPT)
        there = self._sealed[KEPT] + (0 if filling is None else filling.used - filling.emptied)
        return there if oldest is None or oldest is filling else there - oldest.emptied

    def _rival(self, region: Region) -> tuple[int, int]:
        """What a candidate must be above, and the visits of the victim."""
        assert self._sketch is not None
        for slot in range(region.passed, len(region.keys)):
            if self.figures.lives(region, slot):
                visits = region.visits(slot)
                count = self._sketch.estimate(hash(region.keys[slot]))
                return count + visits + stubbornness(self._miniatures.share), visits
        return -1, 0
