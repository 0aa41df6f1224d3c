"""`VolatileCache`: the mapping that users see."""

from __future__ import annotations

import sys
import time
from collections.abc import (
    Awaitable,
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    MutableMapping,
    ValuesView,
)
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, cast

from .._core import MISSING
from . import pressure
from .checks import checked_bound, checked_ttl
from .engine import Engine
from .fork import catch_up
from .statistics import CacheInfo
from .values import EXPIRES, EXPIRY, Codec
from .views import Items, Values

__all__ = ["VolatileCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MISSING_TOO: Any = object()


class VolatileCache(Engine[K, V], MutableMapping[K, V]):
    """A mapping that keeps all that fits in memory, and gives way when the kernel needs it.

    Values are stored as bytes in volatile memory. Under memory pressure the kernel takes what it needs; an entry
    whose bytes are gone is a miss and nothing more. Equal values come back, not the same objects. Arrays, data
    frames and other values with large buffers come back over the cache's own memory, without a copy: read-only,
    and pinned as long as they live. Small arrays are copies, and read-only too.

    Parameters
    ----------
    max_bytes: a bound on the bytes of all values as stored, one of no bytes counting as 8; None leaves it to the
        kernel. Their memory is at most a third more, and four segments (a 64th of the bound each, or what three values
        take, or a page); keys and index come on top, some 120 bytes an entry and the key.
    maxsize: a bound on the number of entries; None for no bound.
    ttl: seconds that values live unless `set` says otherwise; None for ever.
    name: shown in maps and in ``mvolatile status``.
    codec: an object with ``dumps`` and ``loads`` for all values, instead of the cache's own formats.
    on_purge: called with a list of keys that were lost to the kernel, some time after it was noticed, in a daemon
        thread of its own, which is there only while keys are due: a slow one makes no get slow. It may use the cache.
        What it raises goes to `threading.excepthook`. `close` does not wait for it; keys lost before are still told
        then, but at the interpreter's end they may not be.
    dump: with False the values stay out of core dumps.
    inherit: with False a forked child gets none of the values: its cache is empty.
    timer: the clock for ttl, in seconds.

    Threads: any method from any thread; hits take no lock. Fork: both processes have the cache, and go on
    independently (but see `inherit`). It cannot be pickled.

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
        ttl: float | None = None,
        name: str | None = None,
        codec: Codec | None = None,
        on_purge: Callable[[list[Any]], object] | None = None,
        dump: bool = True,
        inherit: bool = True,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        max_bytes, maxsize = checked_bound(max_bytes, "max_bytes"), checked_bound(maxsize, "maxsize")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, not {name!r}")
        if codec is not None and not all(callable(getattr(codec, what, None)) for what in ("dumps", "loads")):
            raise TypeError(f"codec must have dumps and loads, which {codec!r} has not")
        for function, what in ((on_purge, "on_purge"), (timer, "timer")):
            if not callable(function) and (function is not None or what == "timer"):
                raise TypeError(f"{what} must be callable, not {function!r}")
        super().__init__(
            max_bytes,
            maxsize,
            checked_ttl(ttl),
            name or "cache",
            codec,
            on_purge,
            dump=dump,
            inherit=inherit,
            timer=timer,
        )

    # Two caches are equal when they are one: comparing what is in them would read it all.
    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    # ---- reading

    def __contains__(self, key: object) -> bool:
        """Whether a get would have been a hit now. Counts and marks nothing."""
        locator, data = self._fetch_carefully(key, True)
        if data is MISSING:
            return False
        if locator & EXPIRES and self._timer() >= EXPIRY.unpack_from(data, len(data) - 8)[0]:
            self._change(self._log.remove, key, locator)
            return False
        return True

    def __iter__(self) -> Iterator[K]:
        """The keys there are, each looked at when its turn comes: one lost or deleted by then is left out."""
        for key in list(self._index):
            if key in self:
                yield cast(K, key)

    def items(self) -> ItemsView[K, V]:
        """Pairs of key and value, each read when its turn comes; those that are gone by then are left out.

        ``dict(cache)`` asks for keys and then for each value, and may raise `KeyError`; ``dict(cache.items())`` never.
        """
        return Items(self)

    def values(self) -> ValuesView[V]:
        """Values, each read when its turn comes; those that are gone by then are left out."""
        return Values(self)

    def __len__(self) -> int:
        """Entries not known to be lost or expired."""
        if self._log.dropped:
            self._change(self._hand.finish)
        return len(self._index)

    # ---- writing

    def set(self, key: K, value: V, *, ttl: float | None = None) -> None:
        """Store `value`, for `ttl` seconds (default: the cache's `ttl`; 0 stores nothing).

        `TypeError` for a value that cannot be stored or a key that cannot be hashed; `ValueError` for a negative
        or undefined ttl. `TooLargeError`, a `ValueError`, for a value larger than `max_bytes`; `NoRoomError`, which
        is a `MemoryError` too, for one larger than the memory that this machine and its container have, with
        everything volatile given up. Then an older value of the key is gone too, and nothing else.
        """
        self._store(key, value, ttl, None)

    def __setitem__(self, key: K, value: V) -> None:
        self._store(key, value, None, None)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store every pair of a mapping or an iterable; what is gone from another cache meanwhile is left out."""
        super().update(other.items() if isinstance(other, VolatileCache) else other, **more)

    def __delitem__(self, key: K) -> None:
        if not self._delete(key):
            raise KeyError(key)

    def _delete(self, key: Any) -> bool:
        present = key in self
        self._change(self._remove, key)
        return present

    def pop(self, key: K, default: Any = MISSING) -> Any:
        """Remove and return the value; without it `default`, or `KeyError`."""
        while True:
            locator = self._index.get(key)
            value = self._find(key)
            if value is MISSING:
                self._count_miss()
                self._change(self._flights.spoil, key)
                if default is MISSING:
                    raise KeyError(key)
                return default
            if self._change(self._take, key, locator) is not False:
                return value

    def popitem(self) -> tuple[K, V]:
        """Remove and return some key and its value, in constant time; in a small cache the newest key."""
        catch_up()
        while self._index:
            with self._lock:
                key = self._index.last()
            locator = self._index.get(key)
            value = self.pop(key, MISSING_TOO)
            if value is not MISSING_TOO:
                return cast(K, key), cast(V, value)
            if self._index.get(key) == locator:
                break  # a finalizer asks in the middle of a change
        raise KeyError("the cache is empty")

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete those of `keys` that are there; answers how many were."""
        return sum(self._delete(key) for key in keys)

    def clear(self) -> None:
        """Forget everything, statistics too, and give the memory back."""
        self._change(self._clear)

    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value; if there is none, `default` is stored and returned."""
        return self.get_or_set(key, lambda: default)

    def get_or_set(self, key: K, factory: Callable[[], V], *, ttl: float | None = None) -> V:
        """The value; on a miss that of ``factory()``, which is stored.

        Single-flight: while one thread makes the value, others that want it wait, and get it or the exception.
        If the key is set, deleted or cleared meanwhile, the made value is returned but not stored; so is one too
        large for `max_bytes` or for the memory there is. A factory may use the cache, even for its own key, and ask
        through tasks and `asyncio.to_thread`. A thread of its own, or of an executor, is a stranger unless it runs in a
        copy of the factory's context (`contextvars`): a factory that waits for one that asks for the same key waits
        for ever.
        """
        checked_ttl(ttl)
        value = self._find(key)
        if value is not MISSING:
            return cast(V, value)
        self._count_miss()
        return cast(V, self._flights.make(self, key, factory, ttl))

    async def aget_or_set(
        self, key: K, factory: Callable[[], V | Awaitable[V]], *, ttl: float | None = None
    ) -> V:
        """As `get_or_set` for coroutines: `factory` may return an awaitable; waiting does not block the loop.

        A cancelled maker stores nothing, and one of those that wait takes over; so does one where the maker's event
        loop was closed.
        """
        checked_ttl(ttl)
        value = self._find(key)
        if value is not MISSING:
            return cast(V, value)
        self._count_miss()
        return cast(V, await self._flights.amake(self, key, factory, ttl))

    # ---- the whole

    def resize(self, max_bytes: int | None) -> None:
        """Change the bound on bytes; what is too much goes now."""
        self._change(self._resize, checked_bound(max_bytes, "max_bytes"))

    def purge(self, nbytes: int | None = None) -> int:
        """Have the kernel reclaim values now, the oldest first, until `nbytes` went; answers how many bytes did.

        By default all that nobody holds and that is not in the segment being filled. For tests, and for programs that
        know better than the kernel when to give memory back. The values are misses from then on.
        """
        given = 0
        for shelf in list(self._log.by_number.values()):
            if nbytes is not None and given >= nbytes:
                break
            with suppress(BufferError, ValueError):  # held, or dropped by another thread meanwhile
                given += shelf.memory.purge()
        return given

    def cache_info(self) -> CacheInfo:
        """Statistics; the cost is a page-table walk over the cache's memory."""
        self._change(self._settle)
        log = self._log
        shelves = list(log.by_number.values())
        hits, misses = self._counts()
        pinned = sum(shelf.memory.nbytes for shelf in shelves if shelf.memory._pins)
        pinned += sum(memory.nbytes for memory in log.leaving if memory._pins)
        resident: int | None
        try:
            resident = sum(memory.resident() for memory in [shelf.memory for shelf in shelves] + log.spare)
        except (FileNotFoundError, PermissionError):  # no /proc, or a daemon that has changed its user
            resident = None
        return CacheInfo(
            hits=hits,
            misses=misses,
            maxsize=self._hand.max_entries,
            currsize=len(self._index),
            purged=log.purged,
            bytes=log.nbytes,
            resident_bytes=resident,
            pinned_bytes=pinned,
            segments=len(shelves),
        )

    def close(self) -> None:
        """Give the memory back; arrays that live keep theirs. Afterwards everything is a miss and `set` raises
        `ValueError`. Closing twice is fine.
        """
        self._change(self._close)
        self._listening = True
        pressure.ignore(self)

    def __del__(self) -> None:
        # At the interpreter's end the thread stands still for good, and may hold what closing waits for.
        if getattr(self, "_listening", False) and not sys.is_finalizing():
            pressure.ignore(self, wait=False)

    def __enter__(self) -> VolatileCache[K, V]:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._index)} entries, {self._log.nbytes} bytes"
        return f"<{type(self).__name__} {self.name!r}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VolatileCache holds this process's memory, and cannot be pickled or copied")
