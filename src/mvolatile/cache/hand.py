"""Which values go: SIEVE over segments, and how much memory the kernel leaves us.

SIEVE (Zhang et al., NSDI 2024): a hand moves from the oldest value to the newest; a value that was read since the
hand last passed stays where it is, unmarked; another goes. A hit costs one byte written. Here the hand passes a
segment at a time: what stays is moved together, in order, behind the hand. At the newest it starts over.

Without `max_bytes` the kernel decides how much we may have. It purges the oldest volatile pages first, whatever
they hold, so each of its purges takes good values with the bad. So its purges are taken as a network sender takes
losses: what survived, less a little, becomes the `allowance`, and the hand keeps below it, by which the kernel
finds nothing to purge; the allowance grows a little with each segment written, faster the longer no loss is seen,
until it is lifted.
"""

from __future__ import annotations

from .log import Log
from .segment import NUMBER_SHIFT, Range, Shelf

__all__ = ["Hand"]

STEPS = 8
"""Values moved or given up for each value stored, when there is need."""

SLOWEST, BACKED_OFF = 1 / 16, 0.97
QUIET = 16
"""Segments sealed without a loss until growth doubles."""


class Hand:
    """Keeps `log` within ``max_bytes``, ``max_entries`` and the kernel's allowance."""

    def __init__(self, log: Log, max_entries: int | None) -> None:
        self.log = log
        self.max_entries = max_entries
        self.allowance: float | None = None
        self.growth = SLOWEST
        self.quiet = 0
        log.sealed = self.on_seal

    @property
    def limit(self) -> float:
        """Bytes that all shelves together may take now."""
        most = self.log.max_bytes
        if self.allowance is None:
            return float("inf") if most is None else most
        return self.allowance if most is None else min(self.allowance, most)

    def make_room(self, nbytes: int) -> None:
        """Give up values until `nbytes` more fit; some more work ahead of need, so that no call does all of it."""
        log = self.log
        limit = self.limit
        if limit != float("inf"):
            if log.nbytes + nbytes + log.segment_bytes() > limit:
                self._advance(STEPS)
            while log.nbytes + nbytes > limit and self._advance(256):
                pass
        if self.max_entries is not None:
            while len(log.index) > self.max_entries and self._advance(STEPS):
                pass

    def tidy(self) -> None:
        """The bounded work that every change pays for: dead keys leave, half-empty segments are merged."""
        if self.log.dropped:
            self.log.clean(2 * STEPS)
        if self.log.jobs:
            self.log.work(STEPS)

    def finish(self) -> None:
        """All work that is due."""
        while self.log.clean(4096) or self.log.work(4096):
            pass

    def _advance(self, steps: int) -> bool:
        """Move the hand by about `steps` values; False when there is nothing left to give up."""
        log = self.log
        if log.work(steps):
            return True
        if not log.ahead and log.behind:
            log.ahead, log.behind = log.behind, log.ahead
        if not log.ahead:
            if log.newest is None and log.survivors is None:
                return False
            log.seal_all()
            return True
        _, shelf = log.ahead.popitem(last=False)
        if shelf.gone:
            return True
        if isinstance(shelf, Range):
            self._pass_range(shelf)
        else:
            log.move(shelf, keep_all=False)
        return True

    def _pass_range(self, shelf: Range) -> None:
        if shelf.marks[0]:
            shelf.marks[0] = 0
            self.log.behind[shelf.number] = shelf
            return
        key = shelf.keys[0]
        if self.log.index.get(key, 0) >> NUMBER_SHIFT == shelf.number:
            del self.log.index[key]
        self.log.retire(shelf)

    # ---- what the kernel takes

    def on_seal(self, shelf: Shelf) -> None:
        """A shelf was filled: look whether the kernel took old ones, and adapt."""
        lost = False
        for order in (self.log.ahead, self.log.behind):
            for _ in range(4):
                oldest = next(iter(order.values()), None)
                if oldest is None or oldest is shelf or not self.log.inspect(oldest):
                    break
                lost = True
        if lost:
            self.back_off()
            return
        if self.allowance is None:
            return
        self.allowance += self.growth * shelf.used
        self.quiet += 1
        if self.quiet >= QUIET:
            self.quiet = 0
            self.growth *= 2
            if self.growth > 1:
                self.allowance = None

    def back_off(self) -> None:
        """The kernel takes memory: keep below what it left."""
        self.allowance = BACKED_OFF * self.log.nbytes
        self.growth, self.quiet = SLOWEST, 0

    def lift(self) -> None:
        """As if the kernel had never taken anything."""
        self.allowance, self.growth, self.quiet = None, SLOWEST, 0

    def survey(self) -> bool:
        """Ask about every shelf, the oldest first; True if something was lost."""
        lost = False
        for shelf in list(self.log.by_number.values()):
            lost |= self.log.inspect(shelf)
        if lost:
            self.back_off()
        return lost
