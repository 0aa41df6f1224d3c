"""How a client reads: from the keeper's memory by itself, or by asking."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import Any

from .._core import MISSING
from ..errors import VolatilityWarning
from . import keys
from .connection import Attachment, Connections, Line
from .values import Codec, Notices, Rebuilds, decode, raise_if_stopped
from .wire import INLINE, Flag, Op, Reply, Request, Status

__all__ = ["Reader"]

MISS, MOVED, GONE, REFUSED, PURGED, BUSY = range(1, 7)
"""What a table answers in place of a value; slots.h."""
_PLAIN = frozenset({bytes, str})
SCANNED = 256
TRIES = 4


class Reader:
    """Of one cache. Threads: any."""

    def __init__(
        self, connections: Connections, codec: Codec | None, on_lost: Callable[[list[Any]], object] | None
    ) -> None:
        self.connections = connections
        self.notices = None if on_lost is None else Notices(on_lost)
        self.undecodable = 0
        self.found_by_waiting = 0
        self.found_behind = 0  # by who would have made it
        self.missed_alone = 0  # without a keeper
        self.refused = 0
        self.lost = 0
        self.spent = 0.0  # seconds that makers took
        self.rebuilds = Rebuilds()
        self._codec = codec
        self._table: Any = None
        self._told: set[str] = set()

    def find(self, key: Any) -> Any:
        """The value, or `MISSING`. Counts a hit, and no miss."""
        table = self._table
        found = GONE if table is None else table.find(key)
        kind = type(found)
        if kind is int:
            return self._find_otherwise(key, found, table)
        if self._codec is None and kind in _PLAIN:
            return found
        return self.decoded(key, *_parts_of(found))

    def _find_otherwise(self, key: Any, found: int, table: Any) -> Any:
        """`table` does not say, or a value is not to be had by it."""
        for _ in range(4):
            if found == MISS:
                # The bad schedule: the keeper is dead, another thread is attaching to the next one, or has just done
                # so, and this table, which stays as it was, has not the key. A value would be made beside the one there
                # is, again and again: `get_or_set` returned its own after so many looks, and others read the older.
                have = self.connections.attachment
                if have is not None and have.table is table and have.anchor.channel.open:
                    return MISSING
            elif found == PURGED:
                self._tell_lost(key)
                return MISSING
            elif found == BUSY:
                return self._fetched(key)
            elif found == REFUSED:
                self.connections.reads_by_message()
            have = self.attached()
            if have is None:
                keys.encode(key)
                return MISSING
            if have.by_message:
                return self._fetched(key)
            table = have.table
            answer = table.find(key)
            if type(answer) is not int:
                return self.decoded(key, *_parts_of(answer))
            found = answer
        return MISSING

    def attached(self) -> Attachment | None:
        """The attachment, if there is a keeper; `_table` is what hits use, if they may read by themselves."""
        try:
            have = None if self.connections.closed else self.connections.attach(start=False)
        except PermissionError:
            raise
        except OSError as error:
            self.tell_refused("the keeper cannot be asked, so all is a miss", error)
            have = None
        if have is None and not self.connections.closed and self.connections.place.trouble is not None:
            self.tell_no_keeper()
        self._table = None if have is None or have.by_message else have.table
        return have

    def decoded(self, key: Any, kind: int, data: Any) -> Any:
        """The value, or `MISSING` with a warning where it cannot be made of its bytes."""
        try:
            return decode(kind, data, self._codec)
        except Exception as error:
            raise_if_stopped(error)
            self.undecodable += 1
            self.tell_trouble(f"a value cannot be made of its bytes: {error!r}")
            return MISSING

    def _fetched(self, key: Any) -> Any:
        """The value, by way of the keeper."""
        fetched = self._fetch(key)
        if fetched is None:
            return MISSING
        reply, data = fetched
        have = self.connections.attachment
        if have is not None:
            have.table.hit(reply.cost)
        return self.decoded(key, reply.kind, data)

    def _tell_lost(self, key: Any) -> None:
        self.lost += 1
        self.rebuilds.lost(hash(key))
        if self.notices is not None:
            self.notices.due.append(key)
            self.notices.deliver()

    def find_late(self, key: Any, late: float, /) -> Any:
        """The value, if it expired less than `late` seconds ago; or `MISSING`. Counts nothing. What has expired the
        keeper is asked for: to all who read by themselves it is gone.
        """
        try:
            entry = self._fetch_entry(key, late) if late else self.entry(key)
        except (MemoryError, OSError) as error:
            self.tell_trouble(f"an old value cannot be read: {error!r}")
            return MISSING
        return MISSING if entry is None else self.decoded(key, entry[2], entry[3])

    def _fetch(self, key: Any, late: float = 0.0) -> tuple[Reply, Any] | None:
        request = Request(Op.FETCH, keys.encode(key), flags=Flag.LATE if late else 0, seconds=late)
        data: Any = None

        def fetch(line: Line) -> Reply | None:
            nonlocal data
            reply = line.ask(request)
            while reply is not None and reply.status == Status.NEED:
                if line.with_mailbox(reply.length) is None:
                    return None
                reply = line.ask(request)
            if reply is not None and reply.status == Status.OK:
                data = reply.body
                if reply.length > INLINE:
                    assert line.mailbox is not None
                    with memoryview(line.mailbox) as view:
                        data = bytearray(view[: reply.length])
                    line.used_mailbox()
                elif len(data) != reply.length:
                    return None
            return reply

        reply = self.connections.with_line(fetch, start=False)
        if reply is not None and reply.status == Status.LOST:
            self._tell_lost(key)
        if reply is None or reply.status != Status.OK:
            return None
        return reply, data if reply.kind < 2 else bytearray(data)

    def _fetch_entry(self, key: Any, late: float = 0.0) -> tuple[int, float, int, Any] | None:
        fetched = self._fetch(key, late)
        if fetched is None:
            return None
        reply, data = fetched
        return reply.version, reply.expires, reply.kind, data

    def entry(self, key: Any) -> tuple[int, float, int, Any] | None:
        """Version, end of life, kind and bytes of what `key` has. Counts as no use."""
        have = self.attached()
        if have is None:
            keys.encode(key)
            return None
        if not have.by_message:
            for _ in range(4):
                found = have.table.entry(key)
                if type(found) is tuple:
                    return found
                if found in (MISS, PURGED):
                    return None
                if found in (BUSY, REFUSED):
                    break
                if (have := self.attached()) is None:
                    return None
        return self._fetch_entry(key)

    def probe(self, key: Any) -> tuple[int, float] | None:
        """Version and end of life of a value that is all there."""
        have = self.attached()
        for _ in range(4):
            if have is None:
                keys.encode(key)
                return None
            if have.by_message:
                break
            found = have.table.probe(key)
            if type(found) is tuple:
                return found
            if found in (MISS, PURGED):
                return None
            if found in (BUSY, REFUSED):
                break
            have = self.attached()
        entry = self._fetch_entry(key)
        return None if entry is None else entry[:2]

    def encoded_keys(self) -> list[bytes]:
        """Of one table: where that moves meanwhile, from the beginning of the new one."""
        found: list[bytes] = []
        table: Any = None
        at = 0
        while (have := self.attached()) is not None:
            if have.table is not table:
                found, table, at = [], have.table, 0
            answer = REFUSED if have.by_message else table.scan(at, SCANNED)
            if type(answer) is tuple:
                more, at = answer
            elif answer == REFUSED:
                reply = self.connections.request(Request(Op.SCAN, lease=at), start=False)
                if reply is None:
                    continue
                more, at = _unpacked_keys(reply.body), reply.version
            else:
                table = None
                continue
            found += more
            if at >= table.capacity and not table.moved:
                break
        return found

    def count_miss(self) -> None:
        """Of this process."""
        have = self.connections.attachment
        if have is not None:
            have.table.missed()
        else:
            self.missed_alone += 1

    def tell_no_keeper(self) -> None:
        """None can be started. Told to who only looks, too: all would be a miss, for a reason that nobody sees."""
        self.tell_refused("no keeper is to be had, so nothing is stored", self.connections.place.trouble)

    def tell_refused(self, what: str, error: OSError | None) -> None:
        """This process meets no keeper, and not since there is none."""
        self.refused += 1
        self.tell_trouble(what if error is None else f"{what}: {error}")

    def tell_trouble(self, what: str) -> None:
        """Once for each kind of it."""
        if what.partition(":")[0] not in self._told:
            self._told.add(what.partition(":")[0])
            warnings.warn(f"{self!r}: {what}", VolatilityWarning, stacklevel=4)

    def start_over(self) -> None:
        """In a forked child, which is a client by itself: hits by the parent's table would be counted as the parent's,
        and the keeper would not know that anybody is there.
        """
        self._table = None
        self.found_by_waiting = self.found_behind = self.missed_alone = self.refused = 0
        self.connections.after_fork()

    def let_go(self) -> None:
        """Of the keeper."""
        self._table = None
        self.connections.close()


def _parts_of(found: Any) -> tuple[int, Any]:
    """Kind and bytes of what a table found."""
    if type(found) is tuple:
        return found
    return (0 if type(found) is bytes else 1), found


def _unpacked_keys(body: bytes) -> list[bytes]:
    found, at = [], 0
    while at + 4 <= len(body):
        (size,) = struct.unpack_from("<I", body, at)
        found.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return found
