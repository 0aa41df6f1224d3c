"""Which values go, by a hand that passes over segments, and how much memory the kernel leaves us.

SIEVE (Zhang et al., NSDI 2024): a hand moves from the oldest value to the newest; a value that was read since the
hand last passed stays where it is, unmarked; another goes. A hit costs one byte written. Here the hand passes a
segment at a time: what stays is moved together, in order, behind the hand. At the newest it starts over. Where
CLOCK does better, what stays is moved among the newest instead (`duel.py`).

Without `max_bytes` the kernel decides how much we may have. It purges the oldest volatile pages first, whatever
they hold, so each of its purges takes good values with the bad. So its purges are taken as a network sender takes
losses: what survived, less a little, becomes the `allowance`, and the hand keeps below it, by which the kernel
finds nothing to purge; the allowance grows a little with each segment written, faster the longer no loss is seen,
until it is lifted.
"""

from __future__ import annotations

from .duel import CLOCK, Duel
from .log import Log
from .segment import Range, Segment, Shelf
from .sweep import Sweeper

__all__ = ["Hand"]

STEPS = 8
"""Values moved or forgotten for each value stored, when there is need."""

SLOWEST, BACKED_OFF = 1 / 16, 0.97
LEAST = 8 << 20
"""The kernel may have taken everything; so much is always tried again."""
QUIET = 16
"""Segments sealed without a loss until growth doubles."""


class Hand:
    """Keeps `log` within ``max_bytes``, ``max_entries`` and the kernel's allowance."""

    def __init__(self, log: Log, max_entries: int | None, sweeper: Sweeper, duel: Duel) -> None:
        self.log = log
        self.max_entries = max_entries
        self.sweeper = sweeper
        self.duel = duel
        self.allowance: float | None = None
        self.growth = SLOWEST
        self.quiet = 0
        self._victim: Segment | None = None
        self._at = 0
        log.sealed = self.on_seal

    @property
    def limit(self) -> float:
        """Bytes that all shelves together may take now."""
        most = self.log.max_bytes
        if self.allowance is None:
            return float("inf") if most is None else most
        return self.allowance if most is None else min(self.allowance, most)

    def make_room(self, nbytes: int) -> None:
        """A value of `nbytes` is to be stored: give up others until it fits."""
        limit = self.limit
        if limit == float("inf"):
            return
        if self.log.nbytes > limit / 2 and self.duel.stored(nbytes, limit):
            self._change_policy()
        self.fit(nbytes)

    def fit(self, nbytes: int) -> None:
        """Give up values until `nbytes` more fit."""
        limit = self.limit
        while self.log.nbytes + nbytes > limit and self._advance():
            pass

    def _change_policy(self) -> None:
        self.log.survivors_are_young = self.duel.policy == CLOCK
        if self.log.survivors_are_young:
            # The hand stays among what is ahead from now on: put all in its way, the oldest first.
            self.log.behind.update(self.log.ahead)
            self.log.ahead.clear()
            self.log.ahead, self.log.behind = self.log.behind, self.log.ahead

    def keep_count(self) -> None:
        """Give up values until there are no more than `max_entries`."""
        if self.max_entries is None or len(self.log.index) <= self.max_entries:
            return
        while self.log.clean(4096):
            pass
        while len(self.log.index) > self.max_entries and self._advance():
            pass

    def tidy(self) -> None:
        """The bounded work that every change pays for: dead keys leave, half-empty segments are merged."""
        if self.log.dropped:
            self.log.clean(2 * STEPS)
        if self.log.sparse:
            self.log.work(STEPS)
        if self.sweeper.needed:
            self.sweeper.sweep(STEPS // 2)

    def finish(self) -> None:
        """All work that is due."""
        while self.log.clean(4096) or self.log.work(4096):
            pass

    def _advance(self) -> bool:
        """Pass one value; False when there is nothing left to give up."""
        log = self.log
        while self._victim is None or self._victim.number not in log.by_number:
            if not log.ahead and log.behind:
                log.ahead, log.behind = log.behind, log.ahead
            if not log.ahead:
                log.seal_all()
                if not log.ahead and not log.behind:
                    return False
                continue
            shelf = next(iter(log.ahead.values()))
            if isinstance(shelf, Range):
                self._pass_range(shelf)
                return True
            self._victim, self._at = shelf, 0
        self._pass_slot(self._victim, self._at)
        return True

    def _pass_slot(self, segment: Segment, slot: int) -> None:
        if slot < len(segment.keys):
            if segment.marked(slot):
                self.log.keep(segment, slot, 0)
            elif self.log.lives(segment, slot):
                del self.log.index[segment.keys[slot]]
            self._at = slot + 1
            self.log.emptied(segment, slot)
        if self._at >= len(segment.keys):
            self._victim = None
            self.log.retire(segment)

    def _pass_range(self, shelf: Range) -> None:
        if shelf.marked(0):
            shelf.mark(0, False)
            del self.log.ahead[shelf.number]
            order = self.log.ahead if self.log.survivors_are_young else self.log.behind
            order[shelf.number] = shelf
            return
        if self.log.lives(shelf, 0):
            del self.log.index[shelf.keys[0]]
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
        self.allowance = max(LEAST, BACKED_OFF * self.log.nbytes)
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
