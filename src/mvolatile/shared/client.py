"""`SharedCache`: one cache for all processes of a user on a host."""

from __future__ import annotations

import copyreg
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .._core import MISSING
from . import keys
from .access import Access, check
from .connection import Connections
from .here import Here, enter
from .making import Making
from .values import (
    CacheInfo,
    Codec,
    Items,
    Mode,
    TimeToLive,
    Unstorable,
    Values,
    checked_behind,
    checked_bound,
    checked_cost,
    checked_grace,
    checked_ttl,
    checked_unstorable,
    packed,
    unpacked,
)
from .verbs import Verbs
from .wire import ANY, Op, Request

__all__ = ["SharedCache"]

if TYPE_CHECKING:
    import typing_extensions  # which every checker brings: with a default, a bare `SharedCache()` needs no annotation

    K = typing_extensions.TypeVar("K", bound=Hashable, default=Any)
    V = typing_extensions.TypeVar("V", default=Any)
else:
    K = TypeVar("K", bound=Hashable)
    V = TypeVar("V")
T = TypeVar("T")

LINGER = 60.0


class SharedCache(Making[K, V], Verbs[K, V], MutableMapping[K, V]):
    """A mapping that all processes of this user on this host have in common, by its `name`, and that gives way when
    the kernel needs the memory.

    The values lie in the volatile memory of a *keeper*, a small process that the first who needs it starts, and that
    ends `linger` seconds after the last who used it. A hit asks nobody: it is one system call, which copies the value
    out of the keeper's memory. If the keeper dies all is a miss, and the next store starts another.

    Parameters
    ----------
    name: 1 to 64 letters, digits, ``.``, ``_`` and ``-``. Processes that give the same name share the values.
    max_bytes: a bound on the bytes of all values, if this process starts the keeper; None leaves it to the kernel.
    ttl: how long values live unless `set` says otherwise: seconds, a `timedelta`, or a function of the value.
    codec: an object with ``dumps`` and ``loads`` for all values. Without one values are pickled: they come from
        processes of the same user, and a pickle may run code. All who share a cache give the same.
    linger: how many seconds the keeper outlives the last who uses it, if this process starts it.
    on_lost: called with a list of keys that this process asked for and that the kernel had taken, in a thread of its
        own.
    unstorable: what `get_or_set` and the decorator do with a made value that cannot be stored, as of `VolatileCache`.
    stale: for so many seconds (or a `timedelta`) after it expired, `get_or_set` and the decorator give a value at
        once, and one maker on the host makes it anew, beside who asked; as of `VolatileCache`.
    stale_if_error: for so many seconds after it expired, they give it where making a new one raised an `Exception`.
    behind: a mutable mapping of strings to bytes, where values are kept too, and read when memory has them no more; see
        the guide to it. All who share a cache give the same.
    behind_mode: ``"back"``: a thread writes there, and what waits for it is bounded; ``"through"``: stores wait.

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
        on_lost: Callable[[list[Any]], object] | None = None,
        unstorable: Unstorable = "warn",
        stale: float | timedelta | None = None,
        stale_if_error: float | timedelta | None = None,
        behind: MutableMapping[str, Any] | None = None,
        behind_mode: Mode = "back",
    ) -> None:
        if codec is not None and not all(callable(getattr(codec, what, None)) for what in ("dumps", "loads")):
            raise TypeError(f"codec must define dumps() and loads(), got {codec!r}")
        if on_lost is not None and not callable(on_lost):
            raise TypeError(f"on_lost must be callable, not {on_lost!r}")
        if not linger >= 0:
            raise ValueError(f"linger must be seconds, not {linger!r}")
        self.name = name
        self._given: dict[str, Any] = {
            "max_bytes": checked_bound(max_bytes, "max_bytes"),
            "ttl": checked_ttl(ttl),
            "codec": codec,
            "linger": float(linger),
            "on_lost": on_lost,
            "unstorable": checked_unstorable(unstorable),
            "stale": checked_grace(stale, "stale"),
            "stale_if_error": checked_grace(stale_if_error, "stale_if_error"),
            "behind": checked_behind(behind, behind_mode),
            "behind_mode": behind_mode,
        }
        old = self._given["stale"], self._given["stale_if_error"]
        connections = Connections(name, self._given["max_bytes"], self._given["linger"], max(old))
        self._access = Access(
            name, connections, codec, self._given["ttl"], on_lost, unstorable, behind, behind_mode, *old
        )
        self._find = self._access.find
        enter(self)

    # Two caches are equal when they are one: comparing what is in them would read it all.
    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    # ---- reading

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
            value = self._access.missed(key)
        return default if value is MISSING else value

    def __getitem__(self, key: K) -> V:
        value = self._find(key)
        if value is MISSING and (value := self._access.missed(key)) is MISSING:
            raise KeyError(key)
        return cast(V, value)

    def __contains__(self, key: object) -> bool:
        """Whether a get would have been a hit now. Counts and marks nothing. What can be no key is not in it."""
        return self._access.contains(key)

    def __iter__(self) -> Iterator[K]:
        """The keys there are, in no order; one that comes or goes meanwhile may be among them or not."""
        for encoded in self._access.encoded_keys():
            yield keys.decode(encoded)

    def __len__(self) -> int:
        """Entries not known to be lost or expired."""
        have = self._access.attached()
        return 0 if have is None else have.table.used

    def items(self) -> ItemsView[K, V]:
        """Pairs of key and value, each read when its turn comes; those that are gone by then are left out."""
        return Items(self, self, self._find)

    def values(self) -> ValuesView[V]:
        """Values, each read when its turn comes; those that are gone by then are left out."""
        return Values(self, self, self._find)

    # ---- writing

    def set(
        self, key: K, value: V, *, ttl: TimeToLive = None, tag: Hashable = None, cost: float | None = None
    ) -> None:
        """Store `value`, for `ttl` (default: the cache's; `math.inf` for ever; 0 stores nothing), with `tag` for
        `delete_tag`. `cost`: seconds that it took to make, if known; what is dear stays longer. When it returns, no
        read that begins anywhere finds an older value.

        `TypeError` for a value that cannot be stored or a key that cannot be encoded. `TooLargeError` for one larger
        than `max_bytes`, `NoRoomError` for one larger than the memory there is: then an older value of the key is
        gone too. `OSError` where this process has no descriptor left to tell the keeper: an older value may be there
        still. Where no keeper can be started nothing is stored, and a `VolatilityWarning` says so once.
        """
        access = self._access
        check(access.store(key, value, ttl, cost=checked_cost(cost), tag=access.use_tag(tag)))

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def __delitem__(self, key: K) -> None:
        if not self._access.delete(key):
            raise KeyError(key)

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there; answers how many were."""
        return sum(self._access.delete(key) for key in keys)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove and return the value; without it `default`, or `KeyError`. Of all who pop at once one gets it."""
        self._access.bring(key)
        while True:
            entry = self._access.entry(key)
            value = MISSING if entry is None else self._access.decoded(key, entry[2], entry[3])
            if entry is None or value is MISSING:
                self._access.delete(key)
                self._access.count_miss()
                if default is MISSING:
                    raise KeyError(key)
                return default
            if self._access.delete(key, entry[0]):
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
        self._access.clear()

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store every pair of a mapping or an iterable; what is gone from another cache meanwhile is left out."""
        super().update(other.items() if isinstance(other, Mapping) else other, **more)

    # ---- the whole

    def resize(self, max_bytes: int | None) -> None:
        """Change the keeper's bound on bytes; what is too much goes now."""
        most = checked_bound(max_bytes, "max_bytes")
        self._given["max_bytes"] = self._access.connections.max_bytes = most
        self._access.connections.request(Request(Op.RESIZE, length=ANY if most is None else most))

    def purge(self, nbytes: int | None = None) -> int:
        """Have the kernel reclaim values now, the oldest first, until `nbytes` went; answers how many bytes did."""
        reply = self._access.connections.request(
            Request(Op.PURGE, length=ANY if nbytes is None else nbytes), start=False
        )
        return 0 if reply is None else reply.length

    def keeper_info(self) -> dict[str, Any]:
        """What the keeper tells of itself, by name; empty if there is none."""
        import json

        reply = self._access.connections.request(Request(Op.INFO), start=False)
        return {} if reply is None else cast("dict[str, Any]", json.loads(reply.body))

    def cache_info(self) -> CacheInfo:
        """Statistics: `hits`, `misses`, `saved_seconds` and `spent_seconds` are this process's, the rest is the
        keeper's; `overhead` is its ordinary memory that grows with the entries.
        """
        told = self.keeper_info()
        hits, misses, saved = self._access.connections.counts()
        return CacheInfo(
            hits=hits + self._access.found_by_waiting + self._access.found_behind,
            misses=misses + self._access.missed_alone - self._access.found_behind,
            maxsize=None,
            currsize=told.get("entries", 0),
            purged=told.get("purged", 0),
            evicted=told.get("evicted", 0),
            expired=told.get("expired", 0),
            stores=told.get("stores", 0),
            bytes=told.get("bytes", 0),
            resident_bytes=told.get("resident"),
            pinned_bytes=told.get("pinned", 0),
            segments=told.get("segments", 0),
            undecodable=self._access.undecodable,
            overhead=told.get("overhead", 0),
            saved_seconds=saved,
            spent_seconds=self._access.spent,
            lost_seconds=told.get("lost_seconds", 0.0),
            **({} if self._access.second is None else self._access.second.behind.counts()),
        )

    def here(self) -> Here:
        """What this process alone knows of."""
        return Here(self._access.lost, self._access.rebuilds.pressure(), self._access.refused)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._access.connections.closed

    def close(self) -> None:
        """Let go of the keeper, which has the values still. Afterwards everything is a miss here, and `set` raises
        `ValueError`. What is to be written `behind` is written first. Closing twice is fine.
        """
        self._access.close()

    def __enter__(self) -> SharedCache[K, V]:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "shared"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The object first, then its parameters: on_lost may be a method of it.
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        more = {name: value for name, value in vars(self).items() if name not in _OWN}
        return {
            "name": self.name,
            "parameters": packed(self._given),
            "closed": self.closed,
            "attributes": more,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        SharedCache.__init__(self, state["name"], **unpacked(state["parameters"]))
        vars(self).update(state["attributes"])
        if state["closed"]:
            self.close()


_OWN = {"name", "_given", "_access", "_find"}
_NOTHING: Any = object()
