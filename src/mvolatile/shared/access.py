"""What a client does to a cache: stores, deletions, and making a missing value once."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from .._core import MISSING, boot_seconds
from ..errors import NoRoomError, TooLargeError
from . import keys
from .connection import Connections, Line
from .lease import HELD, aleased, doubt, holds_leases, leased, tag_in
from .reading import Reader
from .values import (
    NO_TAGS,
    UNKNOWN,
    Call,
    Calls,
    Codec,
    Costs,
    Mode,
    Refreshing,
    SingleFlight,
    Terms,
    TimeToLive,
    Unstorable,
    checked_condition,
    checked_tag,
    checked_ttl,
    class_of,
    decode,
    encode,
    follow,
    joined,
    raise_if_stopped,
    seconds_to_live,
)
from .wire import ABSENT, ANY, COST_SHIFT, INLINE, Flag, Op, Reply, Request, Status, tag_of

if TYPE_CHECKING:
    from .second import Second

__all__ = ["Access", "check"]

MOST_COSTS = 1 << 12
"""Keys of which is remembered what making them took, so that one measurement is not believed alone."""


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
        behind: MutableMapping[str, Any] | None = None,
        behind_mode: Mode = "back",
        stale: float = 0.0,
        stale_if_error: float = 0.0,
    ) -> None:
        super().__init__(connections, codec, on_lost)
        self.name = name
        self.second: Second | None = None
        if behind is not None:
            from .second import Second  # of many workers each has in memory what it loads

            self.second = Second(connections, behind, behind_mode, name, codec, self.find)
        self.ttl = ttl
        self._unstorable = unstorable
        self.calls = Calls()
        self._costs = Costs()
        self._flight = SingleFlight(self, self.calls, self.rebuilds)
        if stale or stale_if_error:
            self._flight = Refreshing(self, self.calls, self.rebuilds, self, stale, stale_if_error, (HELD,))
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
        cost: int = UNKNOWN,
        until: float | None = None,
        tag: bytes = b"",
    ) -> Reply | None:
        """Store it if the key is at `version`. None if there is no keeper to be had. `cost` is the class of what it
        took to make; `until` the end of its life, by the keeper's clock, if that is to stay as it is (0: never);
        `tag` what `use_tag` made of one.
        """
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
            reply = self._tell_deletion(key, encoded_key, version)
            return Reply(Status.OK) if reply is None or version == ANY else reply
        encoded = encode(value, self._codec, None)
        seconds = math.inf if lives is None else lives
        request = Request(
            Op.STORE,
            encoded_key,
            b"" if encoded.nbytes > INLINE else joined(encoded),
            encoded.kind,
            flags | self._flag | cost << COST_SHIFT,
            encoded.nbytes,
            seconds,
            version,
            lease,
            tag,
        )
        if not lease:
            self.calls.invalidate(key)

        def store(line: Line) -> Reply | None:
            return line.post(request, encoded)

        reply = store(line) if line is not None else self.connections.change(store, start=True)
        if self.second is not None and (reply is not None or not lease):
            if until is not None:
                seconds = self.seconds_until(until)
            self.second.noted(reply, encoded_key, self.second.record(encoded_key, encoded, seconds, cost))
        if reply is None and lease == 0:
            self.tell_no_keeper()
        return reply

    def delete(self, key: Any, version: int = ANY) -> bool:
        """Whether there was one, at that version. When it returns nobody reads it any more."""
        encoded = keys.encode(key)
        there = (
            self.second is not None and version == ANY and self.probe(key) is None and self.second.has(key)
        )
        reply = self._tell_deletion(key, encoded, version)
        return there or (reply is not None and reply.status == Status.OK)

    def _tell_deletion(self, key: Any, encoded: bytes, version: int) -> Reply | None:
        self.calls.invalidate(key)
        request = Request(Op.DELETE, encoded, flags=self._flag, version=version)
        if self.second is None or self.connections.closed:
            return self.connections.tell(request)
        reply = self.connections.change(lambda line: line.ask(request), start=True)
        self.second.noted(reply, encoded)
        return reply

    def clear(self) -> None:
        """Forget everything."""
        self.calls.invalidate_all()
        request = Request(Op.CLEAR, flags=self._flag)
        reply = self.connections.change(lambda line: line.ask(request), start=self.second is not None)
        if self.second is not None:
            self.second.cleared(reply)

    # ---- tags

    def use_tag(self, tag: Any) -> bytes:
        """What stands for it with the keeper: nothing for None."""
        if tag is None:
            return b""
        if self.second is not None:
            raise ValueError(NO_TAGS)
        return tag_of(keys.encode(tag))

    def terms(self, ttl: Any, condition: Any, tag: Any) -> Terms:
        """Those of one making."""
        self.use_tag(tag)
        return Terms(checked_ttl(ttl), checked_condition(condition), tag_of=checked_tag(tag))

    def delete_tag(self, tag: Any) -> int:
        """How many values were deleted. When it returns nobody reads them any more."""
        there = self.use_tag(tag)
        self.calls.invalidate_tagged(there)
        reply = self.connections.tell(Request(Op.DELETE_TAG, tag=there)) if there else None
        return 0 if reply is None else reply.length

    # ---- making once

    def make(self, key: Any, factory: Callable[[], Any], terms: Terms) -> Any:
        """What memory has not: of another, or of ``factory()``, which is stored."""
        terms = self._tagged(terms, factory)
        made = leased(self, key, factory, terms)
        return self._flight.make(key, made, terms, factory, not holds_leases())

    async def amake(self, key: Any, factory: Callable[[], Any], terms: Terms) -> Any:
        """As `make`, for tasks."""
        terms = self._tagged(terms, factory)
        made = aleased(self, key, factory, terms)
        return await self._flight.amake(key, made, terms, factory, not holds_leases())

    def _tagged(self, terms: Terms, factory: Callable[[], Any]) -> Terms:
        """With the tag of this call, which stands from before its making on."""
        if terms.tag_of is None:
            return terms
        tag = self.use_tag(terms.tag(factory))
        return terms._replace(tag_of=lambda _: tag)

    @property
    def _flag(self) -> int:
        return 0 if self.second is None else Flag.BEHIND

    # ---- what is behind

    def missed(self, key: Any) -> Any:
        """Memory has not the value: it is looked for behind, or a miss is counted, and `MISSING` answered."""
        value = MISSING if self.second is None or self.connections.closed else self.second.find(key)
        if value is MISSING:
            self.count_miss()
        else:
            self.count_hit()
        return value

    def bring(self, key: Any) -> None:
        """Have it in memory, if it is behind alone: for what reads and changes it in one step."""
        if self.second is not None and not self.connections.closed and self.probe(key) is None:
            self.second.find(key)

    def find_leased(self, asked: tuple[Any, Reply, Line], /) -> Any:
        """The value that is behind, for who has a lease of its key; or `MISSING`."""
        value = MISSING if self.second is None else self.second.find_leased(*asked)
        if value is not MISSING:
            self.found_behind += 1
        return value

    def seconds_until(self, expires: float) -> float:
        """What is left of a life that ends then by the keeper's clock; 0: never."""
        have = self.connections.attachment
        return expires - boot_seconds() - (have.ahead if have else 0.0) if expires else math.inf

    def drop_undecodable(self, key: Any) -> None:
        """If it cannot be made of its bytes it leaves: else it would be made anew at each call, and never stored."""
        entry = self.entry(key)
        if entry is not None and self.decoded(key, entry[2], entry[3]) is MISSING:
            self._tell_deletion(key, keys.encode(key), entry[0])

    # ---- what `SingleFlight` asks of a cache

    def after_fork(self) -> None:
        """What other threads were making is never made here."""
        if self.second is not None:
            self.second.behind.after_fork()
        self.calls.forget_other_threads()
        self._flight.after_fork()
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

    def store_leased(
        self, key: Any, value: Any, terms: Terms, lease: int, line: Line, seconds: float, call: Call | None
    ) -> bool:
        """Store what was made under a lease; whether it is stored, or was stale. Raises nothing, unless asked to."""
        cost = UNKNOWN
        if terms.timed:
            self.spent += seconds
            cost = self._costs.smoothed(hash(key), class_of(seconds), MOST_COSTS)
        if terms.condition is not None and not terms.condition(value):
            return False
        try:
            tag = tag_in(terms)
            reply = self.store(key, value, terms.ttl, lease=lease, line=line, cost=cost, tag=tag)
            if reply is None or reply.status in (Status.OK, Status.STALE):
                doubt(call)  # memory says what there is
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

    def store_made(self, key: Any, value: Any, terms: Terms, call: Any, /) -> bool:
        """Who made it under a lease has stored it, or knows why not: `lease.py`."""
        return not call.stale

    def holds(self, key: Any) -> bool:
        """Whether there is a value."""
        return self.probe(key) is not None

    def contains(self, key: Any) -> bool:
        """Whether a get would have been a hit now, in memory or behind. What can be no key has no value;
        `TypeError` for what no mapping takes as one.
        """
        try:
            if self.probe(key) is not None:
                return True
            return self.second is not None and not self.connections.closed and self.second.has(key)
        except (TypeError, ValueError):
            hash(key)
            return False

    def close(self) -> None:
        """What is due behind is done first."""
        self._flight.drop()
        if self.second is not None and not self.connections.closed:
            self.second.behind.close()
        self.let_go()

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


def check(reply: Reply | None) -> None:
    """Raise what the keeper could not do."""
    if reply is None:
        return
    if reply.status == Status.TOO_LARGE:
        raise TooLargeError("the value is larger than the keeper's max_bytes")
    if reply.status == Status.NO_ROOM:
        raise NoRoomError("the value is larger than the memory that the keeper has")
