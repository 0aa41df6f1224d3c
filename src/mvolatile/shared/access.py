"""What a client does to a cache: stores, deletions, and making a missing value once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .._core import MISSING
from ..errors import NoRoomError, TooLargeError
from . import keys
from .connection import Connections, Line
from .reading import Reader
from .values import (
    Calls,
    Codec,
    Encoded,
    SingleFlight,
    Terms,
    TimeToLive,
    Unstorable,
    checked_ttl,
    decode,
    encode,
    follow,
    joined,
    raise_if_stopped,
    seconds_to_live,
    write_parts,
)
from .wire import ABSENT, ANY, INLINE, Flag, Op, Reply, Request, Status

__all__ = ["Access", "check"]


class Access(Reader):
    """Of one cache. Threads: any. `name` is for messages."""

    def __init__(
        self,
        name: str,
        connections: Connections,
        codec: Codec | None,
        ttl: TimeToLive,
        on_lost: Callable[[list[Any]], object] | None,
        unstorable: Unstorable = "warn",
    ) -> None:
        super().__init__(connections, codec, on_lost)
        self.name = name
        self.ttl = ttl
        self._unstorable = unstorable
        self.calls = Calls()
        self.flight = SingleFlight(self, self.calls, self.rebuilds)
        follow(self)

    def __repr__(self) -> str:
        return f"<SharedCache {self.name!r}>"

    def store(
        self,
        key: Any,
        value: Any,
        ttl: TimeToLive,
        *,
        version: int = ANY,
        lease: int = 0,
        line: Line | None = None,
        flags: int = 0,
    ) -> Reply | None:
        """Store it if the key is at `version`. None if there is no keeper to be had."""
        if self.connections.closed:
            raise ValueError(f"{self!r} is closed: nothing can be stored")
        encoded_key = keys.encode(key)
        own = seconds_to_live(checked_ttl(ttl), value)
        lives = seconds_to_live(self.ttl, value) if own is None else own
        if lives is not None and lives <= 0 and lease:
            return Reply(Status.NO)
        if lives is not None and lives <= 0 and version == ABSENT:  # it was added, and is over at once
            return Reply(Status.OK if self.probe(key) is None else Status.NO)
        if lives is not None and lives <= 0:
            gone = Request(Op.DELETE, encoded_key, version=version)
            reply = self.connections.tell(gone) if line is None else line.ask(gone)
            return Reply(Status.OK) if reply is None or version == ANY else reply
        encoded = encode(value, self._codec, None)
        large = encoded.nbytes > INLINE
        request = Request(
            Op.STORE,
            encoded_key,
            b"" if large else joined(encoded),
            encoded.kind,
            flags | Flag.IN_MAILBOX if large else flags,
            encoded.nbytes,
            math.inf if lives is None else lives,
            version,
            lease,
        )
        if not lease:
            self.calls.invalidate(key)

        def store(line: Line) -> Reply | None:
            return _post(line, request, encoded) if large else line.ask(request)

        reply = store(line) if line is not None else self.connections.change(store, start=True)
        if reply is None and lease == 0:
            self.tell_no_keeper()
        return reply

    def delete(self, key: Any, version: int = ANY) -> bool:
        """Whether there was one, at that version. When it returns nobody reads it any more."""
        encoded = keys.encode(key)
        self.calls.invalidate(key)
        reply = self.connections.tell(Request(Op.DELETE, encoded, version=version))
        return reply is not None and reply.status == Status.OK

    def drop_undecodable(self, key: Any) -> None:
        """If it cannot be made of its bytes it leaves: else it would be made anew at each call, and never stored."""
        entry = self.entry(key)
        if entry is not None and self.decoded(key, entry[2], entry[3]) is MISSING:
            self.connections.tell(Request(Op.DELETE, keys.encode(key), version=entry[0]))

    # ---- what `SingleFlight` asks of a cache

    def after_fork(self) -> None:
        """What other threads were making is never made here."""
        self.calls.forget_other_threads()
        self.start_over()
        self.rebuilds.after_fork()
        if self.notices is not None:
            self.notices.after_fork()

    def find_or_miss(self, key: Any) -> Any:
        """The value, or `MISSING`."""
        return self.find(key)

    tier = None

    def load(self, call: Any, /) -> Any:
        """`MISSING`: who makes it under a lease looks there."""
        return MISSING

    def count_hit(self) -> None:
        """Of a value that another call made."""
        self.found_by_waiting += 1

    def store_leased(self, key: Any, value: Any, terms: Terms, lease: int, line: Line) -> bool:
        """Store what was made under a lease; whether it is stored, or was stale. Raises nothing, unless asked to."""
        if terms.condition is not None and not terms.condition(value):
            return False
        try:
            reply = self.store(key, value, terms.ttl, lease=lease, line=line)
            if self._unstorable == "raise":
                check(reply)
            return reply is None or reply.status in (
                Status.OK,
                Status.STALE,
                Status.NO_ROOM,
                Status.TOO_LARGE,
            )
        except Exception as error:
            raise_if_stopped(error)
            if self._unstorable == "raise" and not isinstance(error, OSError | MemoryError):
                raise
            if self._unstorable == "warn" or isinstance(error, OSError | MemoryError):
                self.tell_trouble(f"a value was made and cannot be stored: {error!r}")
            return False

    def store_made(self, key: Any, value: Any, terms: Terms, call: Any, /) -> None:
        """Nothing: who made it under a lease has stored it."""

    def holds(self, key: Any) -> bool:
        """Whether there is a value."""
        return self.probe(key) is not None

    def lay_out(self, value: Any) -> Any:
        """The value as it would be stored; None if that cannot be."""
        try:
            encoded = encode(value, self._codec, None)
            return encoded.kind, joined(encoded)
        except Exception as error:
            raise_if_stopped(error)
            return None

    def make_again(self, layout: tuple[int, bytes]) -> Any:
        """The value of a layout."""
        return decode(layout[0], bytearray(layout[1]), self._codec)

    def give_way_to_program(self) -> None:
        """The values are not this process's memory."""


def _post(line: Line, request: Request, encoded: Encoded) -> Reply | None:
    """Of a large value, which goes by the mailbox."""
    mailbox = line.with_mailbox(encoded.nbytes)
    if mailbox is None:
        return None
    with mailbox, mailbox[: encoded.nbytes] as target:
        write_parts(encoded.parts, target)
    try:
        return line.ask(request)
    finally:
        line.used_mailbox()


def check(reply: Reply | None) -> None:
    """Raise what the keeper could not do."""
    if reply is None:
        return
    if reply.status == Status.TOO_LARGE:
        raise TooLargeError("the value is larger than the keeper's max_bytes")
    if reply.status == Status.NO_ROOM:
        raise NoRoomError("the value is larger than the memory that the keeper has")
