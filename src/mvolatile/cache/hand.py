"""Which values go, by a hand that passes over segments, and how much memory the kernel leaves us.

SIEVE (Zhang et al., NSDI 2024): a hand moves from the oldest value to the newest. A value that was read since the
hand last passed stays, and its mark is cleared; one that was not is dropped. A hit writes one byte. Here the hand
passes a segment at a time: what stays is moved together, in order, behind the hand. At the newest it starts over.
Where CLOCK does better, what stays is moved among the newest instead (`duel.py`).

Without `max_bytes` the kernel decides how much we may have. It purges the oldest volatile pages first, whatever
they hold, so each of its purges takes good values with the bad. So purges are treated as TCP treats loss: the
`allowance` is cut to just below what was held, and the hand keeps below it, so that the kernel finds nothing to purge.
Then the allowance grows a little with each segment written, faster the longer no loss is seen, until it is lifted.

The allowance bounds the whole footprint: values, and the ordinary memory of keys and index, which the kernel cannot
take. Many small values are mostly the latter; the kernel would take the last value, and then kill the process. So
values and index shrink together, and little room for ordinary memory counts as a loss before there is one.
"""

from __future__ import annotations

from collections.abc import Hashable

from .._core import give_back_kept
from ..kernel.room import room
from .addresses import AddressSpace
from .duel import CLOCK, Duel
from .log import Log
from .segment import NOBODY, Range, Segment, Shelf
from .sweep import Sweeper

__all__ = ["Hand"]

STEPS = 8
"""Values moved or forgotten for each value stored, when there is need."""

SLOWEST, BACKED_OFF = 1 / 32, 0.985
LEAST = 8 << 20
"""The allowance never falls below this, even if the kernel took everything."""
QUIET = 16
"""Segments sealed without a loss until growth doubles."""
SURVEYS = 64
"""While the kernel keeps taking, so many surveys of all shelves are made while the cache is filled once."""
STRIDE = 1 << 20
"""How much the indexes may grow, over all caches, between two checks of available memory (0.5 ms each): so many bytes,
or a sixteenth of what they take.
"""
STRIDES_LEFT = 4
"""With room for fewer strides nothing grows; while room still shrinks, so does what is held, to `RETREAT` of it."""
RETREAT = 0.95
GIVEN_UP = 8
"""Where no memory is to be had, at least such a part of the values goes."""


_unasked = 0
"""By how many bytes the indexes grew since available memory was last checked. Counted without a lock, roughly."""


class Hand:
    """Keeps `log` within ``max_bytes``, ``max_entries`` and the kernel's allowance."""

    def __init__(
        self, log: Log, max_entries: int | None, sweeper: Sweeper, duel: Duel, addresses: AddressSpace
    ) -> None:
        self.log = log
        self.addresses = addresses
        self.max_entries = max_entries
        self.sweeper = sweeper
        self.duel = duel
        self.allowance: float | None = None
        self.growth = SLOWEST
        self.quiet = 0
        self.sustained = 0  # footprint, when last a segment was filled without a loss
        self.least_room = float("inf")  # seen since there was enough
        self.filled = 0  # bytes, since last all was surveyed
        self._victim: Segment | None = None
        self._at = 0
        log.sealed = self.on_seal

    @property
    def limit(self) -> float:
        """Bytes that the values on all shelves together may take now. Less than nothing where keys take all."""
        most = self.log.max_bytes
        if self.allowance is None:
            return float("inf") if most is None else most
        left = self.allowance - self.log.beside
        return left if most is None else min(left, most)

    def make_room(self, nbytes: int, key: Hashable) -> None:
        """A value of `nbytes` is to be stored: give up others until it fits.

        Before it enters: afterwards the hand may stand at the newest, all others hit, and would give up that one.
        """
        limit = self.limit
        if limit == float("inf"):
            return
        held = self.log.nbytes
        if held > limit / 2 and self.duel.stored(nbytes, max(limit, held)):
            self._change_policy()
        self.fit(nbytes, key)

    def fit(self, nbytes: int, key: Hashable = NOBODY) -> None:
        """Give up values until `nbytes` more fit, in the place of what `key` has now."""
        while (over := self.log.nbytes + nbytes - self.limit) > 0:
            if over <= self.log.given_back_by(key) or not self._advance():
                return

    def give_up(self, nbytes: int) -> bool:
        """No memory is to be had: give up the memory of values of about so many bytes, or more where many are held, and
        stay at that. False when there is nothing left to give up.
        """
        log = self.log
        shelves, keep = len(log.by_number), log.nbytes - max(nbytes, log.nbytes // GIVEN_UP)
        if log.spare:
            log.spare.clear()
            return True
        while (log.nbytes > keep or len(log.by_number) >= shelves) and self._advance():
            pass
        log.spare.clear()
        give_back_kept()
        self._back_off(log.footprint)
        return len(log.by_number) < shelves

    def _change_policy(self) -> None:
        self.log.survivors_are_young = self.duel.policy == CLOCK
        if self.log.survivors_are_young:
            # The hand stays among what is ahead from now on: put all in its way, the oldest first.
            self.log.behind.update(self.log.ahead)
            self.log.ahead.clear()
            self.log.ahead, self.log.behind = self.log.behind, self.log.ahead

    def make_place(self, key: Hashable) -> None:
        """`key` is to be stored: give up others until it is one of `max_entries`. Before it enters, as above."""
        index = self.log.index
        if self.max_entries is None or len(index) < self.max_entries or key in index:
            return
        while self.log.clean(4096):
            pass
        while len(index) >= self.max_entries and self._advance():
            pass

    def tidy(self) -> None:
        """The bounded work of every change: remove dead keys, merge half-empty segments."""
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
                self.log.evict(segment.keys[slot])
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
            self.log.evict(shelf.keys[0])
        self.log.retire(shelf)

    # ---- what the kernel takes

    def on_seal(self, shelf: Shelf) -> None:
        """A shelf was filled: look whether the kernel took old ones, and adapt."""
        self.filled += shelf.used
        for order in (self.log.ahead, self.log.behind):
            oldest = next((oldest for oldest in order.values() if not oldest.gone), None)
            if oldest is not None:
                self.log.inspect(oldest)
        self._ask_for_room(shelf.beside)
        if self.addresses.shrinking:
            self.addresses.shrinking = False
            self._back_off(self.log.footprint * RETREAT)
        if self.log.taken:
            if self.filled * SURVEYS >= self.log.nbytes:
                self.survey()
            return
        self.sustained = self.log.footprint
        if self.allowance is None or self.least_room < float("inf"):
            return
        self.allowance += self.growth * (shelf.used + shelf.beside)
        self.quiet += 1
        if self.quiet >= QUIET:
            self.quiet = 0
            self.growth *= 2
            if self.growth > 1:
                self.allowance = None

    def _ask_for_room(self, entered: int) -> None:
        global _unasked
        _unasked += entered
        stride = max(STRIDE, self.log.beside // 16)
        if _unasked < stride:
            return
        _unasked = 0
        has = room()
        if has is None or has >= STRIDES_LEFT * stride:
            self.least_room = float("inf")
            return
        # Python's allocator reuses freed entries, so shrinking further would free nothing.
        self._back_off(self.log.footprint * (RETREAT if has < self.least_room else 1))
        self.least_room = min(has, self.least_room)

    def survey(self) -> None:
        """Ask about every shelf what the kernel took, and keep below what it let us have before.

        That is what we held when last a segment was filled without a loss, not what survived: the kernel takes more
        than it needs. Where somebody else has the memory now, the next loss comes early, and says so.
        """
        self.filled = 0
        for shelf in list(self.log.by_number.values()):
            self.log.inspect(shelf)
        if self.log.taken:
            self.log.taken = False
            self._back_off(BACKED_OFF * max(self.sustained, self.log.footprint))

    def _back_off(self, footprint: float) -> None:
        self.allowance = max(LEAST, footprint)
        self.growth, self.quiet = SLOWEST, 0
        self.sustained = self.log.footprint

    def lift(self) -> None:
        """As if the kernel had never taken anything."""
        self.allowance, self.growth, self.quiet, self.sustained = None, SLOWEST, 0, 0
        self.filled, self.least_room = 0, float("inf")
        self.log.taken = False
