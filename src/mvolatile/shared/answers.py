"""What a keeper answers. It believes nothing of what clients say: no length, no offset, no descriptor's kind."""

from __future__ import annotations

import fcntl
import json
import math
import os
import struct
import time
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from .._core import HINTS_HEADER, Hints, boot_seconds
from ..errors import NoRoomError, TooLargeError
from . import turns
from .clients import Clients
from .duties import Duties
from .leases import Leases, Told
from .peer import Client, is_memfd
from .storage import Storage
from .wire import (
    ABSENT,
    ANY,
    COST_SHIFT,
    DUE,
    INLINE,
    KNOWN,
    PROTOCOL,
    Flag,
    NonsenseError,
    Op,
    Reply,
    Request,
    Status,
    digest_of,
)

__all__ = ["Answers"]

# Of each store; to look a member of an enumeration up costs as much as the rest of a test.
IN_MAILBOX, KEEP_EXPIRY, READ_BEHIND = int(Flag.IN_MAILBOX), int(Flag.KEEP_EXPIRY), int(Flag.READ_BEHIND)
FOUND = int(Flag.READ_BEHIND | Flag.FOUND_BEHIND)
MOST_HELD = 64
"""Leases that one request may name as its caller's."""


class Answers:
    """To the requests of `clients`; `tell` sends those who wait what they wait for."""

    def __init__(
        self,
        name: str,
        storage: Storage,
        clients: Clients,
        linger: float,
        tell: Callable[[Told], None],
        duties: Duties,
    ) -> None:
        self.name = name
        self.storage = storage
        self.clients = clients
        self.linger = linger
        self.leases = Leases()
        self.duties = duties
        self.since = time.time()
        self._tell = tell

    def answer(self, client: Client, request: Request, passed: list[int]) -> tuple[Reply, int]:
        """And a descriptor to go with it, or -1. `NonsenseError` for what is no request. Who takes a descriptor out of
        `passed` has to close it.
        """
        op = request.op
        if op == Op.HELLO:
            if request.length != PROTOCOL:
                raise NonsenseError
            if not request.seconds >= 0:
                raise NonsenseError
            client.greeted = True
            reclaimer = self.storage.reclaimer
            reclaimer.grace = max(reclaimer.grace, request.seconds)
            most = self.storage.max_bytes
            length = ANY if most is None else most
            return Reply(
                Status.OK, length=length, expires=boot_seconds(), version=self.storage.index.slots.capacity
            ), -1
        if not client.greeted:
            raise NonsenseError
        answer = self._ANSWERS.get(op)
        if answer is not None:
            return answer(self, client, request), -1
        if op >= Op.BEGIN:
            return turns.answer(self.duties, self.storage, client, request), -1
        if op == Op.TABLE:
            return Reply(Status.OK, version=self.storage.index.slots.capacity), self.storage.index.descriptor
        if op in (Op.HINTS, Op.MAILBOX):
            if len(passed) != 1:
                raise NonsenseError
            (self._hints if op == Op.HINTS else self._mailbox)(client, passed.pop())
            return Reply(Status.OK), -1
        raise NonsenseError

    def _hints(self, client: Client, descriptor: int) -> None:
        try:
            capacity = self.storage.index.slots.capacity
            if (
                not is_memfd(descriptor, fcntl.F_SEAL_SHRINK)
                or os.fstat(descriptor).st_size < HINTS_HEADER + capacity
            ):
                return  # of a table that has moved meanwhile
            self.clients.forget_hints(client)
            self.clients.take_hints(client, Hints(descriptor, capacity), self.storage.index.generation)
        finally:
            os.close(descriptor)

    def _mailbox(self, client: Client, descriptor: int) -> None:
        if not is_memfd(descriptor, 0):  # another file may make us wait
            os.close(descriptor)
            raise NonsenseError
        client.take_mailbox(descriptor)

    def _is_at(self, key: bytes, version: int) -> bool:
        """Whether the entry of `key` is the one that the client means."""
        if version == ANY:
            return True
        slot = self.storage.whole_slot(key)
        return (ABSENT if slot < 0 else self.storage.index.slots.get(slot)[0]) == version

    def _store(self, client: Client, request: Request) -> Reply:
        key, length, flags = request.key, request.length, request.flags
        in_mailbox = flags & IN_MAILBOX
        if (
            not key
            or (not in_mailbox and length != len(request.body))
            or (in_mailbox and length > client.mailbox_bytes)
        ):
            raise NonsenseError
        if math.isnan(request.seconds):
            raise NonsenseError
        number, lease = client.socket.fileno(), request.lease
        if flags & READ_BEHIND:
            lease = 0
            if not self.duties.stands(number, request.lease, digest_of(key)):
                return Reply(Status.STALE)
            if self.storage.whole_slot(key) >= 0:
                return Reply(Status.OK)  # another has brought it
        elif lease and self.leases.valid(lease, number) is None:
            self._tell(self.leases.end(lease, number, Status.LOOK))
            return Reply(Status.STALE)
        if not self._is_at(key, request.version):
            return Reply(Status.NO)
        is_found = flags & FOUND
        due = 0 if is_found else self._noted(client, request)
        expires = _when(request.seconds)
        if flags & KEEP_EXPIRY and (slot := self.storage.slot(key)) >= 0:
            expires = self.storage.index.slots.get(slot)[5]
        source = client.posted(length) if in_mailbox else request.body
        status, version = Status.OK, 0
        try:
            version = self.storage.put(key, source, length, request.kind, expires, flags >> COST_SHIFT & 0xFF)
        except NoRoomError:
            status = Status.NO_ROOM
        except TooLargeError:
            status = Status.TOO_LARGE
        finally:
            if isinstance(source, memoryview):
                source.release()
        if not flags & KEEP_EXPIRY:  # what counts on keeps its tag, too
            self.storage.note_tag(key, request.tag)
        if lease:
            self._tell(self.leases.end(lease, number, Status.OWN if status else Status.LOOK))
        elif not is_found:
            self._tell(self.leases.changed(key))
        return Reply(status, version=version, length=due)

    def _noted(self, client: Client, request: Request) -> int:
        """The number of the duty that a change makes for who brings it behind. Others have not been told that there is
        something behind: it is whoever's.
        """
        if not request.flags & Flag.BEHIND and not self.duties.used:
            return 0
        return self.duties.note(digest_of(request.key), client.pid if request.flags & Flag.BEHIND else None)

    def _delete(self, client: Client, request: Request) -> Reply:
        if not self._is_at(request.key, request.version):
            return Reply(Status.NO)
        slot = self.storage.whole_slot(request.key)
        due = self._noted(client, request)
        if slot >= 0:
            self.storage.remove(slot)
        else:
            self.storage.forget(request.key)
        self._tell(self.leases.changed(request.key))
        return Reply(Status.OK if slot >= 0 else Status.NO, length=due)

    def _delete_tag(self, client: Client, request: Request) -> Reply:
        """Nothing of a tag is behind: who has something there gives none, and what others store is deleted there."""
        if not request.tag:
            raise NonsenseError
        self._tell(self.leases.tag_changed(request.tag))
        return Reply(Status.OK, length=self.storage.delete_tagged(request.tag))

    def _clear(self, client: Client, request: Request) -> Reply:
        due = 0
        if request.flags & Flag.BEHIND or self.duties.used:
            due = self.duties.note_all(client.pid if request.flags & Flag.BEHIND else None)
        self.storage.clear()
        self._tell(self.leases.all_changed())
        return Reply(Status.OK, length=due)

    def _touch(self, client: Client, request: Request) -> Reply:
        slot = self.storage.whole_slot(request.key)
        if slot < 0 or not self._is_at(request.key, request.version) or math.isnan(request.seconds):
            return Reply(Status.NO)
        self.storage.touch(slot, _when(request.seconds))
        return Reply(Status.OK)

    def _lease(self, client: Client, request: Request) -> Reply:
        if len(request.body) % 8 or len(request.body) > 8 * MOST_HELD:
            raise NonsenseError
        if self.storage.whole_slot(request.key) >= 0:
            return Reply(Status.LOOK)
        held = struct.unpack(f"<{len(request.body) // 8}Q", request.body)
        who = client.socket.fileno()
        status, number = self.leases.ask(who, request.key, held, request.tag)
        return self.of_lease(who, status, number)

    def of_lease(self, who: Hashable, status: Status, number: int) -> Reply:
        """What is said to who asked for a lease, at once or when its turn comes. Whoever gets it is told what is due
        behind; also who waited while another had it, which failed (schedule 9 of `duties.py`).
        """
        lease = self.leases.valid(number, who) if status == Status.OK and self.duties.used else None
        due = None if lease is None else self.duties.due(digest_of(lease.key))
        return Reply(status, version=number, kind=KNOWN if due is None else DUE, length=due or 0)

    def _release(self, client: Client, request: Request) -> Reply:
        status, who = Status.NO if request.flags & Flag.FAILED else Status.OWN, client.socket.fileno()
        valid = self.leases.valid(request.lease, who) is not None
        self._tell(self.leases.end(request.lease, who, status))
        return Reply(Status.OK if valid else Status.STALE)

    def _fetch(self, client: Client, request: Request) -> Reply:
        if request.flags & Flag.LATE:
            slot = self.storage.late_slot(request.key, request.seconds)
        else:
            slot = self.storage.slot(request.key)
        if slot < 0:
            return Reply(Status.NO)
        version, _, _, length, kind, expires, cost = self.storage.index.slots.get(slot)
        if length > INLINE and length > client.mailbox_bytes:
            return Reply(Status.NEED, length=length)
        record = self.storage.index.slots.read(slot)
        if record is None or record[0] != request.key:
            self.storage.lose(slot)
            return Reply(Status.LOST)
        self.clients.heard(slot, self.storage.index)
        value = record[1]
        if length <= INLINE:
            return Reply(Status.OK, value, kind, length, expires, version, cost)
        at = 0
        while at < length:
            at += os.pwrite(client.mailbox, memoryview(value)[at:], at)
        return Reply(Status.OK, b"", kind, length, expires, version, cost)

    def _scan(self, client: Client, request: Request) -> Reply:
        """Keys from slot `lease` on: as many as fit into a message."""
        keys, size, at = [], 0, request.lease
        while at < self.storage.index.slots.capacity and size < INLINE:
            slots, at = self.storage.index.slots.scan(at, 1)
            for slot in slots:
                if (
                    not self.storage.is_over(self.storage.index.slots.get(slot)[5])
                    and (key := self.storage.index.slots.probe(slot)) is not None
                ):
                    keys.append(struct.pack("<I", len(key)) + key)
                    size += 4 + len(key)
        return Reply(Status.OK, b"".join(keys), version=at)

    def _info(self, client: Client, request: Request) -> Reply:
        return Reply(Status.OK, json.dumps(self.info()).encode())

    def info(self) -> dict[str, Any]:
        """What there is to know of it."""
        storage, reclaimer = self.storage, self.storage.reclaimer
        reclaimer.look_for_losses()
        connections = self.clients.connections
        hits, misses, purged = self.clients.counts()
        return {
            "name": self.name,
            "pid": os.getpid(),
            "since": self.since,
            "clients": len({client.pid for client in connections}),
            "connections": len(connections),
            "entries": storage.index.slots.used,
            "bytes": storage.segments.nbytes,
            "max_bytes": storage.max_bytes,
            "resident": storage.segments.resident(),
            "pinned": storage.segments.pinned(),
            "segments": len(storage.segments),
            "overhead": reclaimer.overhead,
            "hits": hits,
            "misses": misses,
            "purged": max(reclaimer.purged, purged),
            "evicted": reclaimer.evictable.evicted,
            "expired": reclaimer.expired,
            "lost_seconds": reclaimer.lost_seconds,
            "lost_ages": reclaimer.ages.counts,
            "lost_age_sum": reclaimer.ages.sum,
            "stores": storage.stores,
            "making": len(self.leases),
            "waiting": self.leases.waiting,
            "tagged": self.storage.tagged,
            "linger": self.linger,
            "due": len(self.duties),
        }

    def _resize(self, client: Client, request: Request) -> Reply:
        self.storage.resize(None if request.length == ANY else request.length)
        return Reply(Status.OK)

    def _purge(self, client: Client, request: Request) -> Reply:
        given = self.storage.purge(None if request.length == ANY else request.length)
        return Reply(Status.OK, length=given)

    _ANSWERS: ClassVar[dict[int, Callable[..., Reply]]] = {
        Op.STORE: _store,
        Op.DELETE: _delete,
        Op.CLEAR: _clear,
        Op.TOUCH: _touch,
        Op.LEASE: _lease,
        Op.RELEASE: _release,
        Op.FETCH: _fetch,
        Op.SCAN: _scan,
        Op.INFO: _info,
        Op.RESIZE: _resize,
        Op.PURGE: _purge,
        Op.DELETE_TAG: _delete_tag,
    }

    def tick(self) -> None:
        """What is due when time has passed."""
        self.storage.tick()
        self.duties.look()

    def left(self, client: Client) -> Told:
        """A connection is gone; who is to be told what."""
        number = client.socket.fileno()
        self.duties.gone(number)
        if all(other.pid != client.pid for other in self.clients.connections):
            self.duties.left(client.pid)
        return self.leases.gone(number)


def _when(seconds: float) -> float:
    """The end of a life that is so many seconds long."""
    return 0.0 if seconds == math.inf else boot_seconds() + seconds
