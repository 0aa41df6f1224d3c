"""What is to be done behind a shared cache, and by whom: the order that a second tier has not by itself.

The tier is a mapping of each client's own, and knows no order: a write that one process has queued may come there after
another's deletion. The keeper hears all changes, in one order, and so it keeps for each key the last one that has not
come there: a *duty*, which has a number. Whoever wants to do one asks for its *turn* first. It gets it if no later
change was heard, and nobody else is at that key; it says when it is over. Until a key's last duty is done nobody
believes what the tier has of it.

The bad schedules, which `model/stock/behind_shared.py` tries in all orders:

1. B stores *k*, and the write waits in its queue; A deletes *k*, here and behind; B writes. B asks for its turn, and
   its duty is none any more.
2. B has its turn and is slow; A's deletion comes between. A has its turn when B's is over, or B is dead.
3. B stores *k* over an older value, and is killed; memory loses it; C reads the older value behind. The duty stays, and
   so *k* is not believed, until another client has deleted it there.
4. The keeper is killed, and the next one knows of no duties: so they are on a file (`ledger.py`).
5. The keeper is killed while B, which is stopped, has its turn; A deletes; B goes on and writes. The turn is on the
   file, too, with B's beginning, since its number may be another's.
6. C reads behind, and rests; A deletes *k*, here and behind; C stores in memory what it read. What was begun before a
   change is stored no more (`Reading`).
7. All is cleared while B is at *k*: what clears has its turn when nobody else is at anything, and nobody else while it
   is at it.
8. B's answer is lost with the keeper, and it asks the next one: its number is that of its duty still, or it is its own
   turn.
9. B's store waits in its queue, and memory loses the value; C makes *k* under a lease, D waits for that; C fails, and
   the lease is D's. D is told, as C was, that what is behind is not to be believed.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from ..kernel.lives import Life, life_of, lives
from .index import random_bits
from .ledger import Entry, Ledger
from .wire import ALL, Status

__all__ = ["Duties"]

NOBODY: Life = (0, 0)
ELSEWHERE: Life = (0, 1)
"""Processes of another pid namespace, which have no number here: all are there while one has a connection."""


class Duty:
    """Of one key. `number` 0: nothing is due, but somebody is at it."""

    __slots__ = ("at", "hand", "in_hand", "number", "owner")

    def __init__(self, at: int, number: int, owner: Life) -> None:
        self.at, self.number, self.owner = at, number, owner
        self.hand: Life = NOBODY
        self.in_hand = 0


class Reading(NamedTuple):
    """Somebody reads what is behind."""

    number: int
    digest: bytes


class Duties:
    """Of one keeper."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.used = False
        """Whether anybody has something behind."""
        self._last = random_bits(61)  # no other keeper's: what is due may be asked of the next
        self._of: dict[bytes, Duty] = {}
        self._hands: dict[bytes, Duty] = {}
        self._orphans: dict[bytes, None] = {}
        self._lives: dict[int, Life] = {}
        self._doubtful: set[Life] = set()  # those who have no connection, as far as is known
        self._readings: dict[Hashable, Reading] = {}
        for at, entry in ledger.load():
            duty = self._of[entry.digest] = Duty(at, entry.number, entry.owner)
            duty.hand, duty.in_hand = entry.hand, entry.in_hand
            if duty.in_hand:
                self._hands[entry.digest] = duty
            self._doubtful |= {entry.owner, entry.hand} - {NOBODY}
            if entry.owner == NOBODY:
                self._orphans[entry.digest] = None
        self.used = bool(self._of)
        self.look()

    def __len__(self) -> int:
        return len(self._of)

    @property
    def has_orphans(self) -> bool:
        """Whether something is due of those who are gone."""
        return bool(self._orphans)

    def due(self, digest: bytes) -> int | None:
        """The number of what is due of a key; 0 where that is not one thing; None: what is behind may be believed."""
        if ALL in self._of:
            return 0
        duty = self._of.get(digest)
        return None if duty is None else duty.number

    # ---- changes

    def note(self, digest: bytes, pid: int | None) -> int:
        """A key has another value, or none, which process `pid` is to bring there, or with None whoever will. Answers
        the number.
        """
        self.used = True
        for who in [who for who, reading in self._readings.items() if reading.digest == digest]:
            del self._readings[who]
        self._last += 1
        duty = self._of.get(digest)
        if duty is None:
            try:
                duty = self._of[digest] = Duty(self._ledger.place(), 0, NOBODY)
            except OSError:
                return self.note_all(None)
        duty.number, duty.owner = self._last, self._life(pid)
        self._adopted(digest, duty)
        self._write(digest, duty)
        return self._last

    def note_all(self, pid: int | None) -> int:
        """No key has a value."""
        self.used = True
        self._readings.clear()
        self._last += 1
        for digest, duty in list(self._of.items()):
            if digest == ALL:
                continue
            duty.number = 0
            self._settle(digest, duty)
        duty = self._of.get(ALL) or Duty(-1, 0, NOBODY)
        if duty.at < 0:
            try:
                duty.at = self._ledger.place()
            except OSError:
                duty.at = -1
        self._of[ALL] = duty
        duty.number, duty.owner = self._last, self._life(pid)
        self._adopted(ALL, duty)
        self._write(ALL, duty)
        return self._last

    def _adopted(self, digest: bytes, duty: Duty) -> None:
        if duty.owner == NOBODY:
            self._orphans[digest] = None
        else:
            self._orphans.pop(digest, None)

    def _life(self, pid: int | None) -> Life:
        if pid is None:
            return NOBODY
        life = self._lives.get(pid)
        if life is None:
            life = self._lives[pid] = ELSEWHERE if pid <= 0 else life_of(pid)
            self._doubtful.discard(life)
        return life

    # ---- who does them

    def take(self, digest: bytes, number: int, pid: int) -> Status:
        """Whether a client may do what has that number: `OK`; `NO`, not yet; `STALE`, not any more."""
        duty = self._of.get(digest)
        if duty is None or duty.number != number:
            return Status.STALE
        life = self._life(pid)
        if duty.in_hand == number and duty.hand == life:
            return Status.OK
        busy = [digest] if digest != ALL else list(self._hands)
        if digest != ALL and ALL in self._of:
            return Status.NO
        for other in busy:
            if not self._is_free(other):
                return Status.NO
        if digest not in self._of:
            return Status.STALE
        duty.hand, duty.in_hand = life, number
        self._hands[digest] = duty
        self._write(digest, duty)
        return Status.OK

    def _is_free(self, digest: bytes) -> bool:
        duty = self._hands.get(digest)
        if duty is None:
            return True
        if duty.hand in self._doubtful and not lives(duty.hand):
            self._let_go(digest, duty)
            return True
        return False

    def done(self, digest: bytes, number: int, whether: bool) -> None:
        """Who had its turn is done with it, or could not do it: then it is due still."""
        duty = self._of.get(digest)
        if duty is None:
            return
        if whether and duty.number == number:
            duty.number = 0
        if duty.in_hand == number:
            self._let_go(digest, duty)
        elif not duty.in_hand:
            self._settle(digest, duty)

    def _let_go(self, digest: bytes, duty: Duty) -> None:
        duty.hand, duty.in_hand = NOBODY, 0
        self._hands.pop(digest, None)
        self._settle(digest, duty)

    def _settle(self, digest: bytes, duty: Duty) -> None:
        if duty.number or duty.in_hand:
            self._write(digest, duty)
            return
        del self._of[digest]
        self._orphans.pop(digest, None)
        if duty.at >= 0:
            self._ledger.free(duty.at)

    def _write(self, digest: bytes, duty: Duty) -> None:
        if duty.at >= 0:
            self._ledger.write(duty.at, Entry(digest, duty.number, duty.owner, duty.hand, duty.in_hand))

    # ---- those who are gone

    def left(self, pid: int) -> None:
        """A process has no connection any more: it may have ended."""
        life = self._lives.pop(pid, None)
        if life is not None:
            self._doubtful.add(life)

    def look(self) -> None:
        """What those had to do who have ended is for others."""
        for life in [life for life in self._doubtful if not lives(life)]:
            self._doubtful.discard(life)
            for digest, duty in list(self._of.items()):
                if duty.owner == life:
                    duty.owner = NOBODY
                    self._orphans[digest] = None
                if duty.hand == life:
                    self._let_go(digest, duty)

    def adopt(self, pid: int, most: int) -> list[tuple[bytes, int]]:
        """What is due of those who are gone is this client's from now on: each is to be deleted there."""
        life, adopted = self._life(pid), []
        for digest in list(self._orphans)[:most]:
            duty = self._of[digest]
            duty.owner = life
            del self._orphans[digest]
            self._write(digest, duty)
            if duty.number:
                adopted.append((digest, duty.number))
        return adopted

    # ---- who reads

    def begin(self, who: Hashable, digest: bytes) -> int:
        """A client reads what is behind; one thing at a time. Answers the reading's number."""
        self._last += 1
        self._readings[who] = Reading(self._last, digest)
        return self._last

    def stands(self, who: Hashable, number: int, digest: bytes) -> bool:
        """Whether what was read is what the key has still; the reading is over."""
        return self._readings.pop(who, None) == (number, digest)

    def gone(self, who: Hashable) -> None:
        """A connection is."""
        self._readings.pop(who, None)

    def close(self) -> None:
        """The keeper ends."""
        if not self._of:
            self._ledger.drop()
