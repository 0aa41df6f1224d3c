"""What a client has to bring behind: values and deletions that wait for their turn.

The keeper has put them in order (`duties.py`): each has the number that its change was answered with, and before it is
done the keeper is asked whether it is still to be. So here is no order, and nothing that must not be lost: what is lost
with its process is a duty of nobody, and the next client deletes that key behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from ..cache.behind import CLEAR, Record
from .connection import Connections
from .wire import ALL, Flag, Op, Reply, Request, Status, unpacked_duties

__all__ = ["Queue"]

BUSY = 0.002
"""Seconds until one asks again for a turn that another process has."""
MOST = 100_000
"""Things that wait."""
UNHEARD = 0.05
"""Seconds until one asks again where there is no keeper."""


class Queue:
    """Of one client. `prefix` stands before the keys behind; `most` bounds the bytes that wait."""

    def __init__(self, connections: Connections, prefix: str, most: int) -> None:
        self.dropped = 0
        self._connections, self._prefix, self._most = connections, prefix, most
        self.after_fork()

    def after_fork(self) -> None:
        """In the child: all of it is the parent's."""
        self._lock = threading.RLock()
        self._nbytes = 0
        self._due: dict[int, tuple[bytes, Record | None]] = {}
        self._hand: tuple[int, bytes, Record | None] | None = None
        self._unheard: list[Request] = []

    def __len__(self) -> int:
        return len(self._due) + (self._hand is not None)

    def __contains__(self, number: int) -> bool:
        hand = self._hand
        return number in self._due or (hand is not None and hand[0] == number)

    def note(self, digest: bytes, number: int, record: Record | None) -> None:
        """That change is ours to bring there: with None a deletion."""
        with self._lock:
            nbytes = 0 if record is None else len(record.data)
            self._nbytes += nbytes
            self._due[number] = digest, record
            if len(self._due) > MOST:  # nobody writes there; the keeper does not believe those keys, or any
                self._leave(next(iter(self._due)))

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes may wait as well. One value may be of any size."""
        return not self._nbytes or self._nbytes + nbytes <= self._most

    @property
    def is_half_empty(self) -> bool:
        """Whether room is to be hoped for again."""
        return 2 * self._nbytes <= self._most

    def get(self, number: int) -> Record | None:
        """The value that waits under that number: what its key has, as long as the keeper says that it is due."""
        with self._lock:
            hand = self._hand
            if hand is not None and hand[0] == number:
                return hand[2]
            return self._due.get(number, (b"", None))[1]

    # ---- for who writes, one at a time

    def take(self) -> tuple[str, Record | None] | None:
        """What is to be done next, and whose turn it is."""
        if self._hand is not None:  # whoever had it was interrupted before he could say how it ended
            self.done(False)
        for number, digest in self._waiting():
            with self._lock:
                if number not in self._due:
                    continue
                record = self._due[number][1]
                self._hand = number, digest, record
                self._leave(number)
            reply = self._ask(Request(Op.TURN, digest, version=number))
            if reply is not None and reply.kind:
                self.adopt()
            if reply is not None and reply.status == Status.OK:
                return CLEAR if digest == ALL else self._prefix + digest.hex(), record
            with self._lock:
                if reply is None or reply.status != Status.STALE:
                    self._back(number, digest, record)
                self._hand = None
            if reply is None:
                time.sleep(UNHEARD)
                return None
            if reply.status != Status.STALE:
                time.sleep(BUSY)
        return None

    def _waiting(self) -> Iterator[tuple[int, bytes]]:
        for request in [self._unheard.pop() for _ in range(len(self._unheard))]:
            self._tell(request)
        for number, (digest, _) in list(self._due.items())[:64]:
            yield number, digest

    def _leave(self, number: int) -> None:
        _, record = self._due.pop(number)
        self._nbytes -= 0 if record is None else len(record.data)

    def _back(self, number: int, digest: bytes, record: Record | None) -> None:
        self._due[number] = digest, record
        self._nbytes += 0 if record is None else len(record.data)

    def done(self, whether: bool) -> None:
        """What was in hand was done, or failed: then it is to be deleted, until that succeeds."""
        hand = self._hand
        if hand is None:
            return
        number, digest, _ = hand
        self._tell(Request(Op.DONE, digest, flags=0 if whether else Flag.FAILED, version=number))
        with self._lock:
            self._hand = None
            if not whether:
                self._back(number, digest, None)

    def _tell(self, request: Request) -> None:
        reply = self._ask(request)
        if reply is None:
            self._unheard.append(request)  # nobody else has a turn at that key before it is heard
        elif reply.kind:
            self.adopt()

    def adopt(self) -> None:
        """What those had to do who are gone is ours: there are such things, says the keeper."""
        reply = self._ask(Request(Op.ORPHANS))
        if reply is not None:
            with self._lock:
                for digest, number in unpacked_duties(reply.body):
                    self._due.setdefault(number, (digest, None))

    def _ask(self, request: Request) -> Reply | None:
        with suppress(OSError):
            return self._connections.request(request)
        return None
