"""`VolatileCache`: the mapping that users see."""

from __future__ import annotations

import copyreg
import sys
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
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .._core import MISSING, give_back_kept
from . import pressure, registry
from .carry import packed, unpacked
from .checks import (
    Mode,
    TimeToLive,
    Unstorable,
    checked_behind,
    checked_bound,
    checked_grace,
    checked_resident,
    checked_ttl,
    checked_unstorable,
)
from .cost import checked_cost
from .departures import Why
from .engine import Engine
from .fork import catch_up
from .lifetime import lifetime
from .statistics import CacheInfo
from .values import Codec
from .verbs import Verbs
from .views import Items, Values

__all__ = ["VolatileCache"]

if TYPE_CHECKING:
    import typing_extensions  # which every checker brings: with a default, a bare `VolatileCache()` needs no annotation

    K = typing_extensions.TypeVar("K", bound=Hashable, default=Any)
    V = typing_extensions.TypeVar("V", default=Any)
else:
    K = TypeVar("K", bound=Hashable)
    V = TypeVar("V")
T = TypeVar("T")

MISSING_TOO: Any = object()


class VolatileCache(Verbs[K, V], MutableMapping[K, V]):
    """A mapping that keeps all that fits in memory, and gives way when the kernel needs it.

    Values are stored as bytes in volatile memory. Under memory pressure the kernel takes what it needs; an entry
    whose bytes are gone is a miss and nothing more. Equal values come back, not the same objects, and what one hit
    gives no other sees. Plain arrays are read-only; large ones come back over the cache's own memory, without a
    copy, and pin it as long as they live. All else comes back as it was stored, writable if it was (but see `copy`).

    Parameters
    ----------
    max_bytes: a bound on the bytes of all values as stored, one of no bytes counting as 8; None leaves it to the
        kernel. Their memory is at most a third more, and four segments (a 64th of the bound each, or what three values
        take, or a page); keys and index come on top, some 120 bytes an entry and the key.
    maxsize: a bound on the number of entries; None for no bound.
    max_resident: what its memory may add to this process's RSS: bytes, a text like ``"256MiB"``, or a share like
        ``"10%"`` of the container's limit; None for no limit but the process's (`set_resident_limit`). What hits hold
        counts, too, and cannot go. A larger value is not stored.
    ttl: how long values live unless `set` says otherwise: seconds, a `timedelta`, or a function of the value that
        answers one of these (or None, or less than nothing: not stored); None for ever.
    name: shown in maps and in ``mvolatile status``.
    codec: an object with ``dumps`` and ``loads`` for all values, instead of the cache's own formats.
    copy: None as told above; True for private copies always, so that plain arrays are writable, too; False for no
        copy wherever that can be: then the arrays within objects, frames and tables are read-only as well.
    on_lost: called with a list of keys that the kernel took, some time after that was noticed. It runs in a daemon
        thread of its own, so a slow one slows no get. It may use the cache.
        What it raises goes to `threading.excepthook`. `close` does not wait for it; keys lost before are still told
        then, but at the interpreter's end they may not be.
    on_evict: called as ``on_evict(key, why)`` for each key that leaves, in a thread as above: `why` is ``"purged"`` (by
        the kernel), ``"evicted"`` (for a bound, or for want of room), ``"expired"``, ``"replaced"``, ``"deleted"``,
        ``"cleared"`` (or closed) ``"orphaned"`` (the object of a method died) or
        ``"undecodable"``. Told once it is noticed, in order.
        What it raises goes to `threading.excepthook`, and the next key is told all the same.
    dump: with False the values stay out of core dumps.
    inherit: with False a forked child gets none of the values: its cache is empty.
    timer: the clock for ttl, in seconds; by default `time.monotonic`, moved on where `time.time` is set forward.
    stale: for so many seconds (or a `timedelta`) after it expired, `get_or_set` and the decorator give a value at
        once, and have one maker make it anew: in a thread (of a cache at most 4), or in a task of the caller's loop.
        What it raises goes to `threading.excepthook`. Where no thread is to be had, the caller makes it. All other
        methods take it for expired.
    stale_if_error: for so many seconds after it expired, they give it where making a new one raised an `Exception`.
    unstorable: what `get_or_set` and the decorator do with a made value that cannot be stored. They return it and
        warn, once for each kind of trouble (``"warn"``), or say nothing (``"return"``), or raise what kept it
        (``"raise"``). A want of memory is told in any case, and never raised.
    behind: a mutable mapping of strings to bytes (a `diskcache.Cache`, a `zict.File`), where values are kept too, and
        read when memory has them no more; the cache's `name` is part of its keys there. See the guide to it.
    behind_mode: ``"back"``: a thread writes there, and what waits for it is bounded; ``"through"``: stores wait.

    Threads: any method from any thread; hits take no lock. Fork: both processes have the cache, and go on
    independently (but see `inherit`). Pickled or copied it is an empty cache with the same parameters.

    >>> with VolatileCache(name="squares") as cache:
    ...     cache["a"] = b"a value"
    ...     made = cache.get_or_set(3, lambda: 3 * 3)
    ...     made, cache.get("a"), cache.get("b", "a miss"), len(cache)
    (9, b'a value', 'a miss', 2)
    """

    def __init__(
        self,
        max_bytes: int | None = None,
        *,
        maxsize: int | None = None,
        max_resident: int | str | None = None,
        ttl: TimeToLive = None,
        name: str | None = None,
        codec: Codec | None = None,
        copy: bool | None = None,
        on_lost: Callable[[list[Any]], object] | None = None,
        on_evict: Callable[[Any, Why], object] | None = None,
        dump: bool = True,
        inherit: bool = True,
        timer: Callable[[], float] = lifetime,
        stale: float | timedelta | None = None,
        stale_if_error: float | timedelta | None = None,
        unstorable: Unstorable = "warn",
        behind: MutableMapping[str, Any] | None = None,
        behind_mode: Mode = "back",
    ) -> None:
        max_bytes, maxsize = checked_bound(max_bytes, "max_bytes"), checked_bound(maxsize, "maxsize")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, not {name!r}")
        if codec is not None and not all(callable(getattr(codec, what, None)) for what in ("dumps", "loads")):
            raise TypeError(f"codec must define dumps() and loads(), got {codec!r}")
        if copy is not None and not isinstance(copy, bool):
            raise TypeError(f"copy must be None, True or False, not {copy!r}")
        for function, what in ((on_lost, "on_lost"), (on_evict, "on_evict"), (timer, "timer")):
            if not callable(function) and (function is not None or what == "timer"):
                raise TypeError(f"{what} must be callable, not {function!r}")
        self._given: dict[str, Any] = {
            "max_bytes": max_bytes,
            "maxsize": maxsize,
            "max_resident": max_resident,
            "ttl": checked_ttl(ttl),
            "name": name or "cache",
            "codec": codec,
            "copy": copy,
            "on_lost": on_lost,
            "on_evict": on_evict,
            "dump": dump,
            "inherit": inherit,
            "timer": timer,
            "stale": checked_grace(stale, "stale"),
            "stale_if_error": checked_grace(stale_if_error, "stale_if_error"),
            "unstorable": checked_unstorable(unstorable),
            "behind": checked_behind(behind, behind_mode),
            "behind_mode": behind_mode,
        }
        self.name: str = name or "cache"
        resident = checked_resident(max_resident)
        self._engine = Engine(self._lookup, type(self).__name__, **{**self._given, "max_resident": resident})
        registry.enter(self)

    # Two caches are equal when they are one: comparing what is in them would read it all.
    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    # ---- reading

    def __contains__(self, key: object) -> bool:
        """Whether a get would have been a hit now. Counts and marks nothing, and copies no value."""
        return self._engine.contains(key)

    def __iter__(self) -> Iterator[K]:
        """The keys there are, each looked at when its turn comes: one lost or deleted by then is left out. No value is
        copied.
        """
        for key in self._engine.index:  # as it was when this began
            if self._engine.reading.contains(key):
                yield cast(K, key)

    def items(self) -> ItemsView[K, V]:
        """Pairs of key and value, each read when its turn comes; those that are gone by then are left out.

        ``dict(cache)`` asks for keys and then for each value, and may raise `KeyError`; ``dict(cache.items())`` never.
        """
        return Items(self, self._engine.index, self._engine.find)

    def values(self) -> ValuesView[V]:
        """Values, each read when its turn comes; those that are gone by then are left out."""
        return Values(self, self._engine.index, self._engine.find)

    def __len__(self) -> int:
        """Entries not known to be lost or expired."""
        return self._engine.count()

    # ---- writing

    def set(
        self, key: K, value: V, *, ttl: TimeToLive = None, tag: Hashable = None, cost: float | None = None
    ) -> None:
        """Store `value`, for `ttl` (default: the cache's; what else it may be is told there; `math.inf` for ever; 0
        stores nothing), with `tag` for `delete_tag`. `cost`: seconds that it took to make, if known; what is dear stays
        longer.

        `TypeError` for a value that cannot be stored or a key that cannot be hashed; `ValueError` for a negative
        or undefined ttl or cost. `TooLargeError`, a `ValueError`, for a value larger than `max_bytes`; `NoRoomError`,
        which is a `MemoryError` too, for one larger than the memory that this machine and its container have, with
        everything volatile given up. Then an older value of the key is gone too, and nothing else. Where the program's
        limit on addresses leaves no room (``ulimit -v``), other values go, and if that is not enough nothing is stored.
        """
        if cost is not None:
            self._engine.storing.store(
                key, value, ttl, self._engine.use_tag(tag, key), cost=checked_cost(cost)
            )
        elif ttl is not None or tag is not None or not self._lookup.put(key, value):
            self._engine.storing.store(key, value, ttl, self._engine.use_tag(tag, key))

    def _store(self, key: K, value: V) -> None:
        """For `Reader`: a store that is not plain."""
        self._engine.storing.store(key, value, None)

    def _delete(self, key: K) -> None:
        """For `Reader`: ``del``."""
        if not self._engine.delete(key):
            raise KeyError(key)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store every pair of a mapping or an iterable; what is gone from another cache meanwhile is left out."""
        super().update(other.items() if isinstance(other, Mapping) else other, **more)

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: V) -> V: ...
    @overload
    def pop(self, key: K, default: T) -> V | T: ...
    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove and return the value; without it `default`, or `KeyError`."""
        engine = self._engine
        while True:
            engine.bring(key)
            locator = engine.index.get(key)
            value = engine.find(key)
            if value is MISSING:
                if engine.forget_missing(key):
                    continue
                engine.count_miss()
                if default is MISSING:
                    raise KeyError(key)
                return default
            if engine.change(engine.storing.take, key, locator) is not False:
                return value

    def popitem(self) -> tuple[K, V]:
        """Remove and return some key and its value, in constant time; in a small cache the newest key."""
        catch_up()
        engine = self._engine
        while engine.index:
            with engine.change.lock:
                key = engine.index.last()
            locator = engine.index.get(key)
            value = self.pop(key, MISSING_TOO)
            if value is not MISSING_TOO:
                return cast(K, key), cast(V, value)
            if engine.index.get(key) == locator:
                break  # a finalizer asks in the middle of a change
        raise KeyError("the cache is empty")

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there, one after the other; answers how many this call deleted. Of all
        threads that delete a value one counts it; a lost or expired one nobody does. `TypeError` for a key that cannot
        be hashed: those before it are deleted, those after it are not.
        """
        return sum(self._engine.delete(key) for key in keys)

    def clear(self) -> None:
        """Forget everything, statistics too, and give the memory back."""
        self._engine.clear()

    def get_or_set(
        self,
        key: K,
        factory: Callable[[], V],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
        tag: Hashable = None,
    ) -> V:
        """The value; on a miss that of ``factory()``, which is stored.

        Single-flight: while one thread makes the value, others that want it wait, and get one like it or the exception.
        If the key is set, deleted or cleared meanwhile, the made value is returned but not stored; so is one too
        large for `max_bytes` or for the memory there is, one that `condition(value)` finds false, and, with a
        `VolatilityWarning` (but see `unstorable`), whatever else cannot be stored. `tag` is for `delete_tag`. A
        factory may use the cache, even for its own key, and ask through tasks and `asyncio.to_thread`. A factory must
        not wait for a thread of its own, or of an executor, that asks for the same key: both would wait for ever,
        unless that thread runs in a copy of the factory's context (`contextvars`).
        """
        terms = self._engine.terms(ttl, condition, tag)
        value = self._engine.find_or_miss(key)
        if value is not MISSING:
            return cast(V, value)
        return cast(V, self._engine.singleflight.make(key, factory, terms))

    async def aget_or_set(
        self,
        key: K,
        factory: Callable[[], V | Awaitable[V]],
        *,
        ttl: TimeToLive = None,
        condition: Callable[[V], object] | None = None,
        tag: Hashable = None,
    ) -> V:
        """As `get_or_set` for coroutines, under asyncio, trio or anyio: `factory` may return an awaitable; waiting does
        not block the loop.

        A cancelled maker stores nothing, and one of those that wait takes over; so does one where the maker's event
        loop was closed.
        """
        terms = self._engine.terms(ttl, condition, tag)
        value = self._engine.find_or_miss(key)
        if value is not MISSING:
            return cast(V, value)
        return cast(V, await self._engine.singleflight.amake(key, factory, terms))

    # ---- the whole

    def resize(self, max_bytes: int | None) -> None:
        """Change the bound on bytes; what is too much goes now."""
        self._engine.resize(checked_bound(max_bytes, "max_bytes"))

    def purge(self, nbytes: int | None = None) -> int:
        """Have the kernel reclaim values now, the oldest first, until `nbytes` went; answers how many bytes did.

        By default all that nobody holds and that is not in the segment being filled. For tests, and for programs that
        know better than the kernel when to give memory back. The values are misses from then on.
        """
        return self._engine.purge(nbytes)

    def cache_info(self) -> CacheInfo:
        """Statistics; the cost is a page-table walk over the cache's memory."""
        return self._engine.info()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._engine.closed

    def close(self) -> None:
        """Give the memory back; arrays that live keep theirs. Afterwards everything is a miss and `set` raises
        `ValueError`. Closing twice is fine.
        """
        self._engine.close()

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the interpreter's end the thread stands still for good, and may hold what closing waits for. Without a GIL
        # the module's own names may be gone by then.
        engine = getattr(self, "_engine", None)
        if engine is not None and engine.listening and not ends():
            pressure.ignore(engine, wait=False)
            give_back_kept()

    def __enter__(self) -> VolatileCache[K, V]:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._engine)

    def __reduce__(self) -> tuple[Any, ...]:
        # The object first, then its parameters: on_lost may be a method of it.
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        given = {**self._given, "max_bytes": self._engine.budget.max_bytes}
        plain = vars(VolatileCache())
        more = {name: value for name, value in vars(self).items() if name not in plain}
        return {"parameters": packed(given), "closed": self.closed, "attributes": more}

    def __setstate__(self, state: dict[str, Any]) -> None:
        VolatileCache.__init__(self, **unpacked(state["parameters"]))
        vars(self).update(state["attributes"])
        if state["closed"]:
            self.close()
