"""`SharedCache`: one cache for all processes of a user on a host."""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import (
    Awaitable,
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, TypeVar, cast, overload

from .._core import MISSING, boot_seconds
from ..errors import NoRoomError, TooLargeError, VolatilityWarning
from . import keys
from .connection import Connections, Line
from .lease import aleased, leased
from .values import (
    CacheInfo,
    Codec,
    Encoded,
    Flights,
    Items,
    Notices,
    Terms,
    TimeToLive,
    Values,
    checked_bound,
    checked_condition,
    checked_ttl,
    decode,
    encode,
    follow,
    joined,
    packed,
    raise_if_stopped,
    seconds_to_live,
    unpacked,
    write_parts,
)
from .wire import ABSENT, ANY, INLINE, Flag, Op, Reply, Request, Status

__all__ = ["SharedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

MISS, MOVED, GONE, REFUSED, PURGED, BUSY = range(1, 7)
"""What a table answers in place of a value; slots.h."""
_PLAIN = frozenset({bytes, str})
LINGER = 60.0
SCANNED = 256


class SharedCache(MutableMapping[K, V]):
    """A mapping that all processes of this user on this host have in common, by its `name`, and that gives way when
    the kernel needs the memory.

    The values lie in the volatile memory of a *keeper*, a small process that the first who needs it starts, and that ends
    `linger` seconds after the last who used it. A hit asks nobody: it is one system call, which copies the value out of
    the keeper's memory. If the keeper dies all is a miss, and the next store starts another.

    Parameters
    ----------
    name: 1 to 64 letters, digits, ``.``, ``_`` and ``-``. Processes that give the same name share the values.
    max_bytes: a bound on the bytes of all values, if this process starts the keeper; None leaves it to the kernel.
    ttl: how long values live unless `set` says otherwise: seconds, a `timedelta`, or a function of the value.
    codec: an object with ``dumps`` and ``loads`` for all values. Without one values are pickled: they come from
        processes of the same user, and a pickle may run code. All who share a cache give the same.
    linger: how many seconds the keeper outlives the last who uses it, if this process starts it.
    on_purge: called with a list of keys that this process asked for and that the kernel had taken, in a thread of its own.

    Keys are None, numbers, str, bytes, and tuples and frozensets of these; equal ones are one key, as in a dictionary.
    `TypeError` for others, `ValueError` for one that takes more than 65,535 bytes. What a hit gives is the
    caller's own, and writable if that is in its type.

    Threads: any method from any thread. Fork, spawn, forkserver: all may use it, and it pickles, by its name.
    `PermissionError` where the directory of sockets (see `runtime_directory`) is not the user's own.

    >>> cache = SharedCache("squares-of-the-docs", linger=1)
    >>> cache["a"] = b"a value"
    >>> made = cache.get_or_set(3, lambda: 3 * 3)
    >>> made, cache.get("a"), cache.get("b", "a miss"), len(cache)
    (9, b'a value', 'a miss', 2)
    >>> cache.close()
    """

    def __init__(
        self,
        name: str,
        *,
        max_bytes: int | None = None,
        ttl: TimeToLive = None,
        codec: Codec | None = None,
        linger: float = LINGER,
        on_purge: Callable[[list[Any]], object] | None = None,
    ) -> None:
        if codec is not None and not all(callable(getattr(codec, what, None)) for what in ("dumps", "loads")):
            raise TypeError(f"codec must define dumps() and loads(), got {codec!r}")
        if on_purge is not None and not callable(on_purge):
            raise TypeError(f"on_purge must be callable, not {on_purge!r}")
        if not linger >= 0:
            raise ValueError(f"linger must be seconds, not {linger!r}")
        self.name = name
        self._given: dict[str, Any] = {
            "max_bytes": checked_bound(max_bytes, "max_bytes"),
            "ttl": checked_ttl(ttl),
            "codec": codec,
            "linger": float(linger),
            "on_purge": on_purge,
        }
        self._ttl = self._given["ttl"]
        self._codec = codec
        self._connections = Connections(name, self._given["max_bytes"], self._given["linger"])
        self._table: Any = None
        self._flights = Flights()
        self._missing = MISSING
        self._notices = None if on_purge is None else Notices(on_purge)
        self._undecodable = 0
        self._waited_hits = 0
        self._told: set[str] = set()
        follow(self)

    def _after_fork(self) -> None:
        self._flights.forget_other_threads()
        if self._notices is not None:
            self._notices.after_fork()

    # Two caches are equal when they are one: comparing what is in them would read it all.
    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    # ---- reading

    def _find(self, key: Any) -> Any:
        """The value, or `MISSING`. Counts a hit, and no miss."""
        table = self._table
        found = GONE if table is None else table.find(key)
        kind = type(found)
        if kind is int:
            return self._find_otherwise(key, found)
        if self._codec is None and kind in _PLAIN:
            return found
        return self._decoded(key, *(found if kind is tuple else (_kind_of(found), found)))

    def _find_otherwise(self, key: Any, found: int) -> Any:
        """The table does not say, or a value is not to be had by it."""
        for _ in range(4):
            if found == MISS:
                have = self._connections.attachment
                if have is None or have.anchor.channel.open:
                    return MISSING
            elif found == PURGED:
                if self._notices is not None:
                    self._notices.due.append(key)
                    self._notices.deliver()
                return MISSING
            elif found == BUSY:
                return self._fetched(key)
            elif found == REFUSED:
                self._connections.reads_by_message()
            have = self._attached(start=False)
            if have is None:
                keys.encode(key)
                return MISSING
            if have.by_message:
                return self._fetched(key)
            answer = have.table.find(key)
            if type(answer) is not int:
                return self._decoded(key, *(answer if type(answer) is tuple else (_kind_of(answer), answer)))
            found = answer
        return MISSING

    def _attached(self, start: bool) -> Any:
        """The attachment, if there is a keeper; `_table` is what hits use, if they may read by themselves."""
        try:
            have = None if self._connections.closed else self._connections.attach(start)
        except PermissionError:
            raise
        except OSError:
            have = None
        self._table = None if have is None or have.by_message else have.table
        return have

    def _decoded(self, key: Any, kind: int, data: Any) -> Any:
        try:
            return decode(kind, data, self._codec)
        except Exception as error:
            raise_if_stopped(error)
            self._undecodable += 1
            self._tell_trouble(f"a value cannot be made of its bytes: {error!r}")
            return MISSING

    def _fetched(self, key: Any) -> Any:
        """The value, by way of the keeper."""
        entry = self._fetch_entry(key)
        return MISSING if entry is None else self._decoded(key, entry[2], entry[3])

    def _fetch_entry(self, key: Any) -> tuple[int, float, int, Any] | None:
        encoded = keys.encode(key)
        data: Any = None

        def fetch(line: Line) -> Reply | None:
            nonlocal data
            reply = line.ask(Request(Op.FETCH, encoded))
            while reply is not None and reply.status == Status.NEED:
                if line.with_mailbox(reply.length) is None:
                    return None
                reply = line.ask(Request(Op.FETCH, encoded))
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

        reply = self._connections.with_line(fetch, start=False)
        if reply is None or reply.status != Status.OK:
            return None
        return reply.version, reply.expires, reply.kind, data if reply.kind < 2 else bytearray(data)

    def _entry(self, key: Any) -> tuple[int, float, int, Any] | None:
        """Version, end of life, kind and bytes of what `key` has. Counts as no use."""
        have = self._attached(start=False)
        if have is None:
            keys.encode(key)
            return None
        if not have.by_message:
            for _ in range(4):
                found = have.table.entry(key)
                if type(found) is tuple:
                    return cast("tuple[int, float, int, Any]", found)
                if found in (MISS, PURGED):
                    return None
                if found in (BUSY, REFUSED):
                    break
                if (have := self._attached(start=False)) is None:
                    return None
        return self._fetch_entry(key)

    def _find_or_miss(self, key: Any) -> Any:
        return self._find(key)

    def _count_hit(self) -> None:
        self._waited_hits += 1

    def _count_miss(self) -> None:
        have = self._connections.attachment
        if have is not None:
            have.table.missed()

    @overload
    def get(self, key: K, /, default: None = None) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V) -> V: ...
    @overload
    def get(self, key: K, /, default: T) -> V | T: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """The value, or `default`."""
        value = self._find(key)
        if value is MISSING:
            self._count_miss()
            return default
        return value

    def __getitem__(self, key: K) -> V:
        value = self._find(key)
        if value is MISSING:
            self._count_miss()
            raise KeyError(key)
        return cast(V, value)

    def __contains__(self, key: object) -> bool:
        """Whether a get would have been a hit now. Counts and marks nothing."""
        return self._probe(key) is not None

    def _probe(self, key: Any) -> tuple[int, float] | None:
        """Version and end of life of a value that is all there."""
        have = self._attached(start=False)
        for _ in range(4):
            if have is None:
                keys.encode(key)
                return None
            if have.by_message:
                break
            found = have.table.probe(key)
            if type(found) is tuple:
                return cast("tuple[int, float]", found)
            if found in (MISS, PURGED):
                return None
            if found in (BUSY, REFUSED):
                break
            have = self._attached(start=False)
        entry = self._fetch_entry(key)
        return None if entry is None else entry[:2]

    def __iter__(self) -> Iterator[K]:
        """The keys there are, in no order; one that comes or goes meanwhile may be among them or not."""
        at = 0
        while True:
            have = self._attached(start=False)
            if have is None:
                return
            found = REFUSED if have.by_message else have.table.scan(at, SCANNED)
            if type(found) is tuple:
                encoded, at = found
                over = at >= have.table.capacity
            else:
                reply = self._connections.request(Request(Op.SCAN, lease=at), start=False)
                if reply is None:
                    return
                encoded, at = _unpacked_keys(reply.body), reply.version
                over = at >= have.table.capacity
            for key in encoded:
                yield keys.decode(key)
            if over:
                return

    def __len__(self) -> int:
        """Entries not known to be lost or expired."""
        have = self._attached(start=False)
        return 0 if have is None else have.table.used

    def items(self) -> ItemsView[K, V]:
        """Pairs of key and value, each read when its turn comes; those that are gone by then are left out."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """Values, each read when its turn comes; those that are gone by then are left out."""
        return _Values(self)

    # ---- writing

    def _store(
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
        if self._connections.closed:
            raise ValueError(f"{self!r}: nothing can be stored")
        encoded_key = keys.encode(key)
        own = seconds_to_live(checked_ttl(ttl), value)
        lives = seconds_to_live(self._ttl, value) if own is None else own
        if lives is not None and lives <= 0 and lease:
            return Reply(Status.NO)
        if lives is not None and lives <= 0:
            gone = Request(Op.DELETE, encoded_key, version=version)
            reply = self._connections.request(gone, start=False) if line is None else line.ask(gone)
            return Reply(Status.OK) if reply is None or version == ANY else reply
        encoded = encode(value, self._codec, None)
        request = Request(
            Op.STORE,
            encoded_key,
            kind=encoded.kind,
            flags=flags,
            length=encoded.nbytes,
            seconds=math.inf if lives is None else lives,
            version=version,
            lease=lease,
        )
        if not lease:
            self._flights.spoil(key)

        def store(line: Line) -> Reply | None:
            return _send(line, request, encoded)

        reply = store(line) if line is not None else self._connections.with_line(store)
        if reply is None and lease == 0:
            self._tell_trouble("no keeper can be started, so nothing is stored")
        return reply

    def set(self, key: K, value: V, *, ttl: TimeToLive = None) -> None:
        """Store `value`, for `ttl` (default: the cache's; `math.inf` for ever; 0 stores nothing). When it returns, no read
        that begins anywhere finds an older value.

        `TypeError` for a value that cannot be stored or a key that cannot be encoded. `TooLargeError` for one larger than
        `max_bytes`, `NoRoomError` for one larger than the memory there is: then an older value of the key is gone too.
        Where no keeper can be started nothing is stored, and a `VolatilityWarning` says so once.
        """
        _check(self._store(key, value, ttl))

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def add(self, key: K, value: V, *, ttl: TimeToLive = None) -> bool:
        """Store `value` if the key has none: of all processes that add at once one gets True."""
        reply = self._store(key, value, ttl, version=ABSENT)
        _check(reply)
        return reply is None or reply.status == Status.OK

    def _delete(self, key: Any, version: int = ANY) -> bool:
        encoded = keys.encode(key)
        self._flights.spoil(key)
        reply = self._connections.request(Request(Op.DELETE, encoded, version=version), start=False)
        return reply is not None and reply.status == Status.OK

    def __delitem__(self, key: K) -> None:
        if not self._delete(key):
            raise KeyError(key)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there; answers how many were."""
        return sum(self._delete(key) for key in keys)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove and return the value; without it `default`, or `KeyError`. Of all who pop at once one gets it."""
        while True:
            entry = self._entry(key)
            value = MISSING if entry is None else self._decoded(key, entry[2], entry[3])
            if entry is None or value is MISSING:
                self._delete(key)
                self._count_miss()
                if default is MISSING:
                    raise KeyError(key)
                return default
            if self._delete(key, entry[0]):
                return value

    def popitem(self) -> tuple[K, V]:
        """Remove and return some key and its value; `KeyError` if there is none."""
        for key in self:
            value = self.pop(key, _NOTHING)
            if value is not _NOTHING:
                return key, value
        raise KeyError("the cache is empty")

    def clear(self) -> None:
        """Forget everything."""
        self._flights.spoil_all()
        self._connections.request(Request(Op.CLEAR), start=False)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store every pair of a mapping or an iterable; what is gone from another cache meanwhile is left out."""
        super().update(other.items() if isinstance(other, Mapping) else other, **more)

    @overload
    def setdefault(self: SharedCache[K, T | None], key: K, default: None = None) -> T | None: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value; if there is none, `default` is stored and returned."""
        return self.get_or_set(key, lambda: default)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those of `keys` that are there."""
        found = {}
        for key in keys:
            value = self._find(key)
            if value is MISSING:
                self._count_miss()
            else:
                found[key] = value
        return found

    def set_many(self, values: Mapping[K, V] | Iterable[tuple[K, V]], *, ttl: TimeToLive = None) -> None:
        """Store every pair of a mapping or an iterable, as `set`, one after the other."""
        for key, value in values.items() if isinstance(values, Mapping) else values:
            self.set(key, value, ttl=ttl)

    def ttl(self, key: K) -> float | None:
        """The seconds that the value of `key` has still to live, `math.inf` for ever; None if there is no value."""
        found = self._probe(key)
        if found is None:
            return None
        have = self._connections.attachment
        return math.inf if not found[1] else found[1] - boot_seconds() - (have.ahead if have else 0.0)

    def touch(self, key: K, ttl: TimeToLive = None) -> bool:
        """Have the value live `ttl` seconds from now on (default: the cache's `ttl`; `math.inf` for ever; 0 deletes it).
        False if there is none. Nothing is copied.
        """
        ttl = self._ttl if ttl is None else checked_ttl(ttl)
        version = ANY
        value = None
        if callable(ttl):
            entry = self._entry(key)
            if entry is None:
                return False
            version, value = entry[0], self._decoded(key, entry[2], entry[3])
        lives = seconds_to_live(ttl, value)
        if lives is not None and lives <= 0:
            return self._delete(key, version)
        seconds = math.inf if lives is None else lives
        reply = self._connections.request(Request(Op.TOUCH, keys.encode(key), seconds=seconds, version=version), start=False)
        return reply is not None and reply.status == Status.OK

    def incr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """Add `delta` to the number that `key` has, and answer the sum; no process's is lost. It lives as long as it would
        have. Without a value `default` plus `delta` is stored, or with None `KeyError` raised.

        The kernel may take the value at any time, and counting begins anew then.
        """
        while True:
            entry = self._entry(key)
            value = MISSING if entry is None else self._decoded(key, entry[2], entry[3])
            if entry is None or value is MISSING:
                if default is None:
                    raise KeyError(key)
                if self.add(key, default + delta):
                    return default + delta
                continue
            total = value + delta
            reply = self._store(key, total, math.inf, version=entry[0], flags=Flag.KEEP_EXPIRY)
            _check(reply)
            if reply is None or reply.status == Status.OK:
                return total

    def decr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """As `incr`, less `delta`."""
        return self.incr(key, -delta, default=default)

    # ---- making once

    def get_or_set(
        self,
        key: K,
        factory: Callable[[], V],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
    ) -> V:
        """The value; on a miss that of ``factory()``, which is stored.

        Single-flight on the whole host: while one thread of one process makes the value, all others that want it wait, and
        get one like it. If the maker fails or dies another takes over. If the key is set, deleted or cleared
        meanwhile, the made value is returned and not stored; so is one that `condition(value)` finds false or that cannot be
        stored. A factory may use the cache. Makers that need each other's values in a circle make their own.
        """
        terms = Terms(checked_ttl(ttl), checked_condition(condition))
        value = self._find(key)
        if value is not MISSING:
            return cast(V, value)
        return cast(V, self._flights.make(cast(Any, self), key, leased(self, key, factory, terms), terms))

    async def aget_or_set(
        self,
        key: K,
        factory: Callable[[], V | Awaitable[V]],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
    ) -> V:
        """As `get_or_set` for coroutines, under asyncio, trio or anyio: `factory` may return an awaitable."""
        terms = Terms(checked_ttl(ttl), checked_condition(condition))
        value = self._find(key)
        if value is not MISSING:
            return cast(V, value)
        return cast(V, await self._flights.amake(cast(Any, self), key, aleased(self, key, factory, terms), terms))

    def store_made(self, key: Any, value: Any, terms: Terms, lease: int, line: Line) -> bool:
        """Store what was made under a lease; whether it is stored, or was stale. Raises nothing of its own."""
        if terms.condition is not None and not terms.condition(value):
            return False
        try:
            reply = self._store(key, value, terms.ttl, lease=lease, line=line)
            return reply is None or reply.status in (Status.OK, Status.STALE, Status.NO_ROOM, Status.TOO_LARGE)
        except Exception as error:
            raise_if_stopped(error)
            self._tell_trouble(f"a value was made and cannot be stored: {error!r}")
            return False

    def _store_made(self, key: Any, value: Any, terms: Terms, flight: Any) -> None:
        """Nothing: who made it under a lease has stored it."""

    def _holds(self, key: Any) -> bool:
        return self._probe(key) is not None

    def _lay_out(self, value: Any) -> Any:
        try:
            encoded = encode(value, self._codec, None)
            return encoded.kind, joined(encoded)
        except Exception as error:
            raise_if_stopped(error)
            return None

    def _make_again(self, layout: tuple[int, bytes]) -> Any:
        return decode(layout[0], bytearray(layout[1]), self._codec)

    def _give_way_to_program(self) -> None:
        """The values are not this process's memory."""

    @property
    def connections(self) -> Connections:
        """What it has to do with its keeper."""
        return self._connections

    # ---- the whole

    def resize(self, max_bytes: int | None) -> None:
        """Change the keeper's bound on bytes; what is too much goes now."""
        most = checked_bound(max_bytes, "max_bytes")
        self._given["max_bytes"] = self._connections.max_bytes = most
        self._connections.request(Request(Op.RESIZE, length=ANY if most is None else most))

    def purge(self, nbytes: int | None = None) -> int:
        """Have the kernel reclaim values now, the oldest first, until `nbytes` went; answers how many bytes did."""
        reply = self._connections.request(Request(Op.PURGE, length=ANY if nbytes is None else nbytes), start=False)
        return 0 if reply is None else reply.length

    def keeper_info(self) -> dict[str, Any]:
        """What the keeper tells of itself, by name; empty if there is none."""
        import json

        reply = self._connections.request(Request(Op.INFO), start=False)
        return {} if reply is None else cast("dict[str, Any]", json.loads(reply.body))

    def cache_info(self) -> CacheInfo:
        """Statistics: `hits` and `misses` are this process's, the rest is the keeper's; `overhead` is its ordinary memory that
        grows with the entries.
        """
        told = self.keeper_info()
        have = self._connections.attachment
        hits, misses, _ = have.table.counts if have is not None else (0, 0, 0)
        return CacheInfo(
            hits=hits + self._waited_hits,
            misses=misses,
            maxsize=None,
            currsize=told.get("entries", 0),
            purged=told.get("purged", 0),
            bytes=told.get("bytes", 0),
            resident_bytes=told.get("resident"),
            pinned_bytes=told.get("pinned", 0),
            segments=told.get("segments", 0),
            undecodable=self._undecodable,
            overhead=told.get("overhead", 0),
        )

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def close(self) -> None:
        """Let go of the keeper, which has the values still. Afterwards everything is a miss here, and `set` raises
        `ValueError`. Closing twice is fine.
        """
        self._table = None
        self._connections.close()

    def __enter__(self) -> SharedCache[K, V]:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "shared"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "parameters": packed(self._given)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        SharedCache.__init__(self, state["name"], **unpacked(state["parameters"]))

    def _tell_trouble(self, what: str) -> None:
        if what.partition(":")[0] not in self._told:
            self._told.add(what.partition(":")[0])
            warnings.warn(f"{self!r}: {what}", VolatilityWarning, stacklevel=4)


_NOTHING: Any = object()


def _kind_of(found: Any) -> int:
    return 0 if type(found) is bytes else 1


class _Items(Items):
    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            value = self._mapping._find(key)
            if value is not MISSING:
                yield key, value


class _Values(Values):
    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in _Items(self._mapping))


def _send(line: Line, request: Request, encoded: Encoded) -> Reply | None:
    """A small value with the message; a large one by the mailbox."""
    if encoded.nbytes <= INLINE:
        return line.ask(request._replace(body=joined(encoded)))
    mailbox = line.with_mailbox(encoded.nbytes)
    if mailbox is None:
        return None
    with mailbox, mailbox[: encoded.nbytes] as target:
        write_parts(encoded.parts, target)
    try:
        return line.ask(request._replace(flags=request.flags | Flag.IN_MAILBOX))
    finally:
        line.used_mailbox()


def _check(reply: Reply | None) -> None:
    if reply is None:
        return
    if reply.status == Status.TOO_LARGE:
        raise TooLargeError("the value is larger than the keeper's max_bytes")
    if reply.status == Status.NO_ROOM:
        raise NoRoomError("the value is larger than the memory that the keeper has")


def _unpacked_keys(body: bytes) -> list[bytes]:
    found, at = [], 0
    while at + 4 <= len(body):
        (size,) = struct.unpack_from("<I", body, at)
        found.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return found
