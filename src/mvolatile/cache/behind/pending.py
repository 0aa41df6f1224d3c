"""What is still to be done behind, and what that means for who asks there.

Memory is the truth about what was stored last. What lies behind lags, and whoever reads it must not see by how much. So
for each key the last thing that was to happen, and has not happened yet, stands here, and who reads asks here first.

The bad schedules, which `model/stock/behind.py` tries in all orders:

1. *k* is set, and the write waits; *k* is deleted, which is quick; the write is made, and *k* is back. So there is one
   order: each key has one thing that is due, the last, and one at a time makes them.
2. The writer took a write out of the queue, and has not made it; *k* is lost in memory; a reader finds the queue empty
   and reads what was there before. So what is in hand counts as due until it is over.
3. A write fails, and behind is what the key had before. So due is a deletion then, until one succeeds.
4. A reader has read, and rests; *k* is deleted, in memory and behind; the reader stores in memory what it read. So each
   reading is known here, and what is noted for its key makes it stale (`Load`).
5. There is no room in the queue, and a store waits for it no more (`room.py`): to leave a write out would leave an
   older value there. So a deletion is due instead, which takes no room. If even those are too many, nothing there is
   believed until all of it was cleared.
6. A child is forked while things are due: they are its parent's. It writes none of them, and believes nothing that is
   there of those keys until it has stored its own.
7. All is cleared while a write is in hand. The clearing comes after it, and until it is over nothing is there.
"""

from __future__ import annotations

import threading
from typing import Any

from .records import Record

__all__ = ["ABSENT", "CLEAR", "UNKNOWN", "Load", "Pending"]

MOST = 100_000
"""Things due at once, beyond which all is cleared instead."""

ABSENT: Any = object()
UNKNOWN: Any = object()
"""In place of a record: there is none, and: look behind."""

CLEAR = ""
"""In place of a key: all of them."""


class Load:
    """Somebody reads what is behind. `stale` once that is not what the key has."""

    __slots__ = ("stale",)

    def __init__(self) -> None:
        self.stale = False


class Pending:
    """Of one cache; knows no thread and no mapping. `most` is a bound on the bytes that wait to be written.

    What is noted is noted under the cache's lock. The lock here is held over single steps, and is reentrant, since a
    finalizer may come between two of them: no step leaves what another, by the same thread, could break.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.dropped = 0
        self.nbytes = 0
        self._lock = threading.RLock()
        self._due: dict[str, Record | None] = {}
        self._hand: tuple[str, Record | None] | None = None
        self._clear = False
        self._doubted: dict[str, None] = {}
        self._loads: dict[str, list[Load]] = {}

    def after_fork(self) -> None:
        """In the child; see 6."""
        self._lock = threading.RLock()
        if self._hand is not None:
            self._clear |= self._hand[0] == CLEAR
            self._doubted[self._hand[0]] = None
        self._doubted.update(dict.fromkeys(self._due))
        self._due, self._hand, self._loads, self.nbytes = {}, None, {}, 0

    def __len__(self) -> int:
        return len(self._due) + self._clear + (self._hand is not None)

    # ---- what is noted, under the cache's lock

    def note(self, key: str, record: Record | None) -> None:
        """`key` has another value, or with None none."""
        with self._lock:
            for load in self._loads.get(key, ()):
                load.stale = True
            self._doubted.pop(key, None)
            self._leave(self._due.pop(key, None))
            if len(self._due) >= MOST:
                self._empty()
                self._clear = True
                return
            self.nbytes += 0 if record is None else len(record.data)
            self._due[key] = record

    def note_clear(self) -> None:
        """No key has a value."""
        with self._lock:
            self._empty()
            self._clear = True
            for loads in self._loads.values():
                for load in loads:
                    load.stale = True

    def _empty(self) -> None:
        self._due.clear()
        self._doubted.clear()
        self.nbytes = 0

    def _leave(self, record: Record | None) -> None:
        self.nbytes -= 0 if record is None else len(record.data)

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes may wait as well. One value may be of any size."""
        return not self.nbytes or self.nbytes + nbytes <= self.most

    @property
    def is_half_empty(self) -> bool:
        """Whether room is to be hoped for again."""
        return 2 * self.nbytes <= self.most

    # ---- what a reader asks

    def begin(self, key: str) -> tuple[Any, Load]:
        """What is known of `key` here: a record, `ABSENT`, or `UNKNOWN`. The reading, which is to `end`."""
        load = Load()
        with self._lock:
            self._loads.setdefault(key, []).append(load)
            return self._find(key), load

    def _find(self, key: str) -> Any:
        if key in self._due:
            return self._due[key] or ABSENT
        if self._clear or key in self._doubted:
            return ABSENT
        hand = self._hand
        if hand is not None and hand[0] in (key, CLEAR):
            return hand[1] or ABSENT
        return UNKNOWN

    def end(self, key: str, load: Load) -> None:
        """The reading is over."""
        with self._lock:
            loads = self._loads.get(key)
            if loads is not None and load in loads:
                loads.remove(load)
                if not loads:
                    del self._loads[key]

    # ---- what the writer does

    def take(self) -> tuple[str, Record | None] | None:
        """What is to be done next, from now on in hand: a key and its record, or None to delete it; `CLEAR`; None for
        nothing.
        """
        with self._lock:
            if self._hand is not None:  # whoever had it was interrupted before he could say how it ended
                self.done(False)
            if self._clear:
                self._hand = (CLEAR, None)
                self._clear = False
                return self._hand
            key = next(iter(self._due), None)
            if key is None:
                return None
            self._hand = (key, self._due[key])
            record = self._due.pop(key)
            self._leave(record)
            self._hand = (key, record)
            return self._hand

    def done(self, whether: bool) -> None:
        """What was in hand was done, or failed."""
        with self._lock:
            hand, self._hand = self._hand, None
            if whether or hand is None:
                return
            key = hand[0]
            if key == CLEAR:
                self._clear = True
            elif key not in self._due and not self._clear:
                self._due[key] = None
