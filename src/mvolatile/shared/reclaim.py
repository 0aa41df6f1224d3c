"""What goes, and when: as much as the private cache's budget says, and what its policy chooses.

There is too much beyond `max_bytes`, and beyond what the kernel is found to leave: then what goes is chosen here, by
use, before the kernel takes the oldest.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from .._core import boot_seconds
from .evictable import Evictable
from .eviction import KEPT, SECONDS, Ages, Budget, Evictor, make_policy
from .headroom import Headroom
from .index import Index
from .segment import Segment
from .segments import SEGMENT, Segments
from .visits import Visits

__all__ = ["Reclaimer"]

TIME_TO_LOOK, PART_TO_LOOK, LONG, LONG_PART = 1 << 20, 16, 4 << 20, 128
"""Bytes stored after which it is looked whether the kernel took the oldest: so many at least, a sixteenth of a small
cache, 4 MiB of a larger one, and such a part of a large. It takes 50 us, and to store 1 MiB hardly more.
"""
WHOLE_IN_A_ROW = 8
"""Segments of a queue of which nothing is lost, until what is newer is not looked at; unless somebody met a loss: the
kernel passes over what was read since it looked last, and takes what is newer.
"""
REGION = 1 << 20
"""So many bytes stored are a region to the budget, which grows by regions that were filled without a loss."""
SPARE = 4
"""Segments' worth of dead records that are let be."""
MOST_MOVED = 4 << 20
"""Bytes of what lives there that one request waits for while they move, and those of a segment."""
MOST_PASSED = 500
"""Records that may stay, for one that is stored: a client may say without end that all is in use."""
AT_ONCE = 64
"""Such a part of all goes then, whatever is said of it."""
OF_AN_ENTRY = 11 + 8
"""Bytes of ordinary memory: hash and offset in its segment; what the policy has at most."""
OF_A_SEGMENT = 1000


class Reclaimer:
    """Of one keeper."""

    def __init__(self, index: Index, segments: Segments, visits: Visits, max_bytes: int | None) -> None:
        self.budget = Budget(self, max_bytes, None)
        self.purged = self.expired = 0
        self.lost_seconds = 0.0
        self.ages = Ages()
        self.grace = 0.0
        """Seconds for which what has expired is kept."""
        self.evictable = Evictable(index, segments, visits, self.budget)
        self._index, self._segments, self._visits = index, segments, visits
        self._policy = make_policy(self.evictable)
        self._evictor = Evictor(self.evictable, self._policy)
        self._unasked = 0.0  # bytes that may be stored without asking the policy
        self._unseen = 0
        self._headroom = Headroom()
        self._met, self._told = False, 0  # losses that clients have counted
        segments.sealed, segments.left = self._policy.sealed, self._policy.left
        segments.make_room, self.evictable.carry = self.give_up, self._carry

    # ---- what the budget counts

    @property
    def nbytes(self) -> int:
        """Of records."""
        return self._segments.nbytes

    @property
    def overhead(self) -> int:
        """Ordinary memory that grows with them."""
        segments = self._segments
        return self._index.nbytes + segments.records * OF_AN_ENTRY + len(segments) * OF_A_SEGMENT

    # ---- before a record enters

    def make_room(self, key: int, nbytes: int, cost: int = 0) -> int:
        """A record of a key, by its hash, is to be stored: others go until it fits. Answers its queue."""
        queue = self._queue(key, nbytes, cost)
        if self.budget.excess(nbytes) > 0:
            self._shrink(lambda more: self._fits(key, nbytes + more))
        return queue

    def _queue(self, key: int, nbytes: int, cost: int) -> int:
        self._unasked -= nbytes
        if self._unasked > 0:
            return 0
        self._unasked = self._policy.indifferent()
        return self._policy.stored(key, nbytes, cost)

    def _fits(self, key: int, nbytes: int) -> bool:
        over = self.budget.excess(nbytes)
        if over <= 0:
            return True
        at = self._index.slots.find(key)  # what it has now comes back
        return at >= 0 and over <= self._index.slots.get(at)[2]

    def fit(self) -> None:
        """There may be another bound now."""
        self._unasked = 0
        self._shrink(lambda more: self.budget.excess(more) <= 0)

    def give_up(self, nbytes: int) -> None:
        """No memory is to be had: have at least so many bytes less, and stay at that."""
        goal = self.nbytes - max(nbytes, self.nbytes // 8)
        self._shrink(lambda more: self.nbytes <= max(goal, 0))
        self.budget.back_off(self.budget.footprint)
        self._unasked = 0

    def _shrink(self, is_enough: Callable[[int], bool]) -> None:
        """Until it is enough for so many bytes more."""
        passed = more = 0
        try:
            while not is_enough(more) and self._evictor.advance():
                passed += 1
                if passed == MOST_PASSED:
                    self._visits.is_deaf, more = True, self.nbytes // AT_ONCE
        finally:
            self._visits.is_deaf = False

    def _carry(self, at: int, queue: int) -> bool:
        """Write what a slot has anew, among the newest. If that cannot be it leaves. No table moves meanwhile."""
        slots, segments = self._index.slots, self._segments
        _, old, nbytes, length, kind, expires, cost = slots.get(at)
        record = slots.read(at)
        if record is None:
            self.lose(at)
            return False
        if expires and boot_seconds() >= expires + self.grace:
            self.expired += 1
        else:
            key, value = record
            try:
                segment, address, size = segments.place(len(key), length, queue, urgent=False)
            except (OSError, MemoryError):
                self.evictable.evicted += 1
            else:
                version = self._index.next_version()
                hash_ = slots.put(key, value, address, length, kind, expires, version, cost)
                segments.wrote(segment, hash_, address, size)
                segments.died(old, nbytes)
                return True
        self.evictable.remove(at)
        return False

    # ---- afterwards

    def stored(self, nbytes: int) -> None:
        """What is due now and then."""
        if self._segments.filled:
            self._segments.filled = False
            self._compact()
        self._unseen += nbytes
        if self._unseen >= TIME_TO_LOOK and self._unseen >= self._interval():
            self.look_for_losses()

    def _interval(self) -> int:
        return max(TIME_TO_LOOK, min(self.nbytes // PART_TO_LOOK, LONG), self.nbytes // LONG_PART)

    def look_for_losses(self) -> int:
        """Whether the kernel took something: of the oldest, and of all if something was `met`, or a client says so (it
        is not believed: it is looked for). What is lost leaves. Answers how much did.
        """
        stored, self._unseen = self._unseen, 0
        told = self._visits.counts()[2]
        lost, met, everywhere = 0, self._met, self._met or told != self._told
        self._met, self._told = False, told
        for queue in self._policy.queues():
            whole = 0
            segments: list[Any] = list(queue)
            for segment in segments:
                gone = 0 if segment.is_resident() else self._drop_lost(segment)
                lost += gone
                whole = 0 if gone else whole + 1
                if whole >= WHOLE_IN_A_ROW and not everywhere:
                    break
        is_loss = lost > 0 or met
        left = self._headroom.left(stored, is_loss, self.nbytes, self._interval() * 3 // 2)
        if left is not None:
            # What is spare serves before anything else is taken.
            self.budget.back_off(self.budget.footprint + left + self._segments.spare.nbytes)
        elif is_loss:
            self.budget.taken()
        else:
            for more in (REGION,) * (stored // REGION) or (stored,) * bool(stored):
                self.budget.grow(more)
        if left is not None or is_loss:
            self._unasked = 0
        return lost

    def met(self, at: int) -> None:
        """What a slot has was found to be lost by who asked for it."""
        self._met = True
        self.lose(at)

    def _drop_lost(self, segment: Segment) -> int:
        slots = self._index.slots
        live = [
            slots.find(segment.keys[i]) for i in range(len(segment.keys)) if self.evictable.lives(segment, i)
        ]
        lost = [at for at in live if slots.probe(at) is None]
        for at in lost:
            self.lose(at)
        return len(lost)

    def lose(self, at: int) -> None:
        """What a slot has was found to be lost."""
        _, address, *_, cost = self._index.slots.get(at)
        self.purged += 1
        self.lost_seconds += SECONDS[cost]
        self.ages.add(monotonic() - self._segments.of(address).began)
        self.evictable.remove(at)

    def _compact(self) -> None:
        """Memory that is a third larger than what lives in it is too much: what is left of the emptiest moves."""
        segments = self._segments
        if segments.held * 3 <= segments.nbytes * 4 + SPARE * SEGMENT * 3:
            return
        sealed = [segment for segment in segments.all() if not segment.is_open and not segment.passed]
        moved = 0
        for segment in sorted(sealed, key=lambda one: one.live / one.used)[:SPARE]:
            if segment.live * 4 < segment.used * 3 and moved < MOST_MOVED:
                moved += segment.live
                for slot in range(len(segment.keys)):
                    if self.evictable.lives(segment, slot):
                        self.evictable.move(segment, slot, max(KEPT, segment.queue), visits=1)
                segments.forget(segment)

    def lift(self) -> None:
        """As if the kernel had never taken anything."""
        self.budget.lift()
        self._unasked = 0.0

    def mend(self) -> None:
        """Something was cut short for want of memory: what is sealed is in order again."""
        ordered = {region.number for region in self._policy.order()}
        for segment in self._segments.all():
            if segment.number not in ordered and not segment.is_open:
                self._policy.sealed(segment)
