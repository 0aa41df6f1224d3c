"""The second tier of a shared cache, as a client has it: what goes there with a change, what comes from there on a
miss.

Who reads there says so to the keeper first, and stores what it found in memory only if no change of the key was heard
meanwhile; who makes a value under a lease looks there first, under the lease. `duties.py` has the bad schedules.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

from .._core import MISSING
from ..cache.behind import NO_END, QUEUE, Behind, Record, prefix_of
from . import keys
from .connection import Connections, Line
from .queue import Queue
from .values import (
    BYTEARRAY,
    Codec,
    Encoded,
    Mode,
    decode,
    joined,
    raise_if_stopped,
)
from .wire import ALL, COST_SHIFT, INLINE, KNOWN, Flag, Op, Reply, Request, Status, digest_of

__all__ = ["Second"]

TRIES = 4
PATIENCE = 30.0
"""Seconds that a store waits, in mode "through", for another process that is at its key."""
LOOK_AGAIN = 0.002


class Second:
    """Of one client. `look` finds a value in memory, or `MISSING`."""

    def __init__(
        self,
        connections: Connections,
        mapping: MutableMapping[str, Any],
        mode: Mode,
        name: str,
        codec: Codec | None,
        look: Callable[[Any], Any],
    ) -> None:
        self._connections, self._codec, self._look = connections, codec, look
        self._through = mode == "through"
        name = f"shared {name}"  # no private cache's: its changes have no order with ours
        self._prefix = prefix_of(name)
        self._queue = Queue(connections, self._prefix, QUEUE)
        self.behind = Behind(mapping, mode, name, codec is not None, self._queue)

    # ---- what goes there

    def record(self, key: bytes, encoded: Encoded, seconds: float, cost: int) -> Record:
        """Of a value that is stored in memory."""
        ends = NO_END if seconds == math.inf else time.time() + seconds
        return Record(key, encoded.kind, joined(encoded), ends, cost)

    def noted(self, reply: Reply | None, key: bytes, record: Record | None = None) -> None:
        """The keeper has answered a change of a key: it is ours to bring behind. Without a keeper nobody has an order;
        so what is there is deleted at once.
        """
        if reply is None:
            self._delete_now(key)
        elif reply.length:
            self._bring(digest_of(key), reply.length, record if reply.status == Status.OK else None)

    def cleared(self, reply: Reply | None) -> None:
        """As `noted`, of all keys."""
        if reply is not None and reply.length:
            self._bring(ALL, reply.length, None)

    def _bring(self, digest: bytes, number: int, record: Record | None) -> None:
        if record is not None and not self.behind.room.wait(len(record.data)):
            self._queue.dropped += 1
            record = None  # what it is to replace leaves
        self._queue.note(digest, number, record)
        writer = self.behind.writer
        writer.changed()
        if self._through:
            until = time.monotonic() + PATIENCE
            while number in self._queue and not writer.pauses and time.monotonic() < until:
                time.sleep(LOOK_AGAIN)
                writer.changed()

    def _delete_now(self, key: bytes) -> None:
        try:
            with suppress(KeyError):
                del self.behind.writer.mapping[self._prefix + digest_of(key).hex()]
        except Exception as error:
            self.behind.failed(error)

    # ---- what comes from there

    def find(self, key: Any) -> Any:
        """The value of `key` that is behind, from now on in memory; or `MISSING`."""
        encoded = keys.encode(key)
        for _ in range(TRIES):
            line = self._connections.line(start=True)
            if line is None:
                break
            try:
                reply = line.ask(Request(Op.BEGIN, encoded))
                if reply is None:
                    self._connections.lose(line)
                elif reply.status == Status.LOOK:
                    value = self._look(key)
                    if value is not MISSING:
                        return value
                elif reply.status == Status.NO:
                    if reply.kind:
                        self._queue.adopt()
                        self.behind.writer.changed()
                    return self._value(self._queue.get(reply.length))
                else:
                    return self._read(encoded, line, reply.version)
            finally:
                self._connections.put_away(line)
        return MISSING

    def _read(self, key: bytes, line: Line, reading: int) -> Any:
        """Under a reading."""
        record = self.behind.fetch(self._prefix + digest_of(key).hex(), key)
        value = self._value(record)
        if value is MISSING or record is None:
            useless = Flag.FAILED if record is not None else 0
            reply = line.ask(Request(Op.END, key, lease=reading, flags=useless))
            if reply is not None and reply.length:
                self._bring(digest_of(key), reply.length, None)
            return MISSING
        self._keep(key, record, line, reading, Flag.READ_BEHIND)
        return value

    def find_leased(self, key: Any, leased: Reply, line: Line) -> Any:
        """The value of `key` that is behind, for who has the lease, which ends then; or `MISSING`."""
        encoded = keys.encode(key)
        if leased.kind == KNOWN:
            record = self.behind.fetch(self._prefix + digest_of(encoded).hex(), encoded)
        else:
            record = self._queue.get(leased.length)
        value = self._value(record)
        if value is not MISSING and record is not None:
            self._keep(encoded, record, line, leased.version, Flag.FOUND_BEHIND)
        return value

    def _value(self, record: Record | None) -> Any:
        if record is None or record.lasts <= 0:
            return MISSING
        try:
            value = decode(record.kind, _own(record), self._codec)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            self.behind.failed(error)
            return MISSING
        self.behind.hits += 1
        return value

    def _keep(self, key: bytes, record: Record, line: Line, number: int, how: Flag) -> None:
        """In memory. Whatever keeps it from being stored is no reason to lose it."""
        encoded = Encoded(record.kind, [record.data], len(record.data))
        lives = math.inf if record.expires == NO_END else record.lasts
        flags = how | record.cost << COST_SHIFT
        body = b"" if encoded.nbytes > INLINE else bytes(record.data)
        request = Request(Op.STORE, key, body, record.kind, flags, encoded.nbytes, lives, lease=number)
        try:
            line.post(request, encoded)
        except Exception as error:
            raise_if_stopped(error)
            self.behind.failed(error)

    def has(self, key: Any) -> bool:
        """Whether a get would find it behind. Leaves it there, and counts nothing."""
        encoded = keys.encode(key)
        line = self._connections.line(start=True)
        if line is None:
            return False
        try:
            reply = line.ask(Request(Op.BEGIN, encoded))
            if reply is None or reply.status == Status.LOOK:
                return reply is not None
            if reply.status == Status.NO:
                record = self._queue.get(reply.length)
            else:
                record = self.behind.fetch(self._prefix + digest_of(encoded).hex(), encoded)
                line.ask(Request(Op.END, encoded, lease=reply.version))
            return record is not None and record.lasts > 0
        finally:
            self._connections.put_away(line)


def _own(record: Record) -> Any:
    """Its bytes, which the value may keep and write to."""
    return record.data if record.kind < BYTEARRAY else bytearray(record.data)
