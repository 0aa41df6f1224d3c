"""`VolatileCache`: the mapping that users see."""

from __future__ import annotations

import math
import sys
import threading
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
from functools import partial
from operator import index
from typing import Any, NoReturn, TypeVar, cast

from .._core import MISSING, Finder
from ..errors import NoRoomError, Purged, TooLargeError
from ..kernel.room import room
from ..memory import VolatileMemory
from . import fork, pressure
from .duel import Duel
from .flights import Flights
from .hand import Hand
from .log import Log, logs
from .notices import Notices
from .segment import KIND_BITS, NUMBER_SHIFT, SLOTS, Range
from .statistics import CacheInfo
from .sweep import Sweeper
from .values import EXPIRES, EXPIRY, Codec, decode, encode
from .views import Items, Values

__all__ = ["MISSING", "VolatileCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

MISSING_TOO: Any = object()
OWN_RANGE = 64 << 10
"""Values from this size on get memory of their own: a hit is a system call or two, and no copy."""

OWN_PAGES = 16 << 10
"""So do those from this size on that would waste much of a segment; smaller ones would waste much of a page."""

WORTH_ASKING = 32 << 20
"""Before storing values from this size on, the kernel is asked whether there is room: half a millisecond."""

WORTH_SEALING = 256 << 10
"""Open segments with less in them stay open under pressure: of one cache. Many share this."""

_SLOT_MASK, _KIND_MASK = SLOTS - 1, (1 << KIND_BITS) - 1


class VolatileCache(Finder[K, V], MutableMapping[K, V]):
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
        max_bytes, maxsize = _checked_bound(max_bytes, "max_bytes"), _checked_bound(maxsize, "maxsize")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string or None, not {name!r}")
        if codec is not None and not all(callable(getattr(codec, what, None)) for what in ("dumps", "loads")):
            raise TypeError(f"codec must have dumps and loads, which {codec!r} has not")
        for function, what in ((on_purge, "on_purge"), (timer, "timer")):
            if not callable(function) and (function is not None or what == "timer"):
                raise TypeError(f"{what} must be callable, not {function!r}")
        self.name: str = name or "cache"
        self._ttl = _checked_ttl(ttl)
        self._codec = codec
        self._notices = None if on_purge is None else Notices(on_purge)
        self._timer = timer
        self._inherit = inherit
        self._new_memory = partial(VolatileMemory, name=self.name, dump=dump, inherit=inherit)
        self._log = Log(self._new_memory, self._index, self._shelves, max_bytes)
        if self._notices is not None:
            self._log.tell_lost = self._notices.due.append
        self._hand = Hand(self._log, maxsize, Sweeper(self._log, timer), Duel(self._counts))
        self._flights = Flights()
        self._closed = self._listening = False
        self._later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._lock = threading.RLock()
        self._torn = False
        fork.follow(self)

    # Two caches are equal when they are one: comparing what is in them would read it all.
    def __eq__(self, other: object) -> bool:
        return True if self is other else NotImplemented

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    # ---- reading

    def _find_carefully(self, key: Any) -> Any:
        """For `Finder`, when something is not as usual; the value or `MISSING`."""
        locator, data = self._fetch_carefully(key, False)
        return data if data is MISSING else self._decoded(key, locator, data)

    def _decoded(self, key: Any, locator: int, data: Any) -> Any:
        """For `Finder`: the value, unless it is expired."""
        kind = locator & _KIND_MASK
        if kind & EXPIRES:
            if self._timer() >= EXPIRY.unpack_from(data, len(data) - EXPIRY.size)[0]:
                self._change(self._log.remove, key, locator)
                return MISSING
            data, kind = data[: -EXPIRY.size], kind - EXPIRES
        return decode(kind, data, self._codec)

    def _fetch_carefully(self, key: Any, probe: bool) -> tuple[int, Any]:
        """Something was not as usual: the key is not there, its shelf was sealed or dropped meanwhile, or the
        value is lost. The locator and the bytes found in the end, or `MISSING`. A probe marks nothing, and copies no
        large value.
        """
        while (locator := self._index.get(key)) is not None:
            shelf = self._log.by_number.get(locator >> NUMBER_SHIFT)
            if shelf is None:
                self._change(self._log.forget_dangling, key, locator)
                if self._index.get(key) == locator and locator >> NUMBER_SHIFT not in self._log.by_number:
                    break  # a finalizer asks in the middle of a change
                continue
            slot = locator >> KIND_BITS & _SLOT_MASK
            try:
                data = shelf.probe(slot) if probe else shelf.fetch(slot)
            except ValueError:
                continue  # sealed at this moment
            except KeyError:
                self._change(self._log.remove, key, locator)
                break
            except Purged:
                self._change(self._log.lose, key, locator)
                break
            else:
                if not probe:
                    shelf.mark(slot)
                return locator, data
        return 0, MISSING

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

    def _store(self, key: Any, value: Any, ttl: float | None, flight: Any) -> None:
        hash(key)
        if self._closed:
            raise ValueError(f"{self!r}: nothing can be stored")
        lives = self._ttl if ttl is None else _checked_ttl(ttl)
        if lives is not None and lives <= 0:
            self._change(self._put_nothing, key, flight)
            return
        expires = None if lives is None or lives == math.inf else self._timer() + lives
        encoded = encode(value, self._codec)
        if expires is not None:
            self._hand.sweeper.needed = True
        elif not encoded.nbytes:
            expires = math.inf  # takes some bytes: else nothing would bound how many there are
        most = self._log.max_bytes
        nbytes = encoded.nbytes + (0 if expires is None else EXPIRY.size)
        if (most is not None and nbytes > most) or self._hand.max_entries == 0:
            self._change(self._put_nothing, key, flight)
            if self._hand.max_entries == 0:
                return
            raise TooLargeError(f"a value that takes {nbytes} bytes is larger than max_bytes={most}")
        if nbytes >= WORTH_ASKING and (has := room()) is not None and nbytes + _page_tables(nbytes) > has:
            self._change(self._put_nothing, key, flight)
            raise NoRoomError(f"a value of {encoded.nbytes} bytes, but there is room for {max(0, has)}")
        if nbytes >= OWN_RANGE or (nbytes >= OWN_PAGES and nbytes * 4 > self._log.segment_bytes()):
            self._change(self._hand.make_room, encoded.nbytes)
            memory = self._new_memory(max(1, encoded.nbytes))
            shelf = Range(self._log.next_number(), key, encoded, memory, expires, self._timer)
            self._change(self._put_range, shelf, flight)
            return
        parts, kind = encoded.parts, encoded.kind
        if expires is not None:
            parts, kind = [*parts, EXPIRY.pack(expires)], kind | EXPIRES
        data = parts[0] if len(parts) == 1 else b"".join(map(_as_bytes, parts))
        self._change(self._put, key, kind, data, flight)

    _missing: Any = MISSING

    def _store_made(self, key: Any, value: Any, ttl: float | None, flight: Any) -> None:
        with suppress(TooLargeError):
            self._store(key, value, ttl, flight)

    def _stands(self, key: Any, flight: Any) -> bool:
        """Whether a value may be stored: not one that was made while its key was set, deleted or cleared."""
        if self._closed:
            return False
        if flight is not None:
            return not flight.stale
        self._flights.spoil(key)
        return True

    def _put(self, key: Any, kind: int, data: bytes, flight: Any) -> None:
        if self._stands(key, flight):
            self._hand.make_room(len(data))
            self._log.put(key, kind, data)
            self._hand.keep_count()
            self._hand.tidy()

    def _put_range(self, shelf: Range, flight: Any) -> None:
        if self._stands(shelf.keys[0], flight):
            self._hand.fit(shelf.used)  # before it is there: the hand may stand at the newest
            self._log.put_range(shelf)
            self._hand.keep_count()
            self._hand.tidy()

    def _put_nothing(self, key: Any, flight: Any) -> None:
        if self._stands(key, flight):
            self._log.remove(key)

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

    def _remove(self, key: Any) -> None:
        self._flights.spoil(key)
        self._log.remove(key)
        self._hand.tidy()

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

    def _take(self, key: Any, locator: int | None) -> bool:
        """Locators are never used twice: if it is there still, it is the value that was read."""
        if self._index.get(key) != locator:
            return False
        self._remove(key)
        return True

    def popitem(self) -> tuple[K, V]:
        """Remove and return some key and its value, in constant time; in a small cache the newest key."""
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

    def _clear(self) -> None:
        self._flights.spoil_all()
        self._log.clear()
        self._log.purged = 0
        self._hand.lift()
        self._reset_counts()

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
        _checked_ttl(ttl)
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
        _checked_ttl(ttl)
        value = self._find(key)
        if value is not MISSING:
            return cast(V, value)
        self._count_miss()
        return cast(V, await self._flights.amake(self, key, factory, ttl))

    # ---- the whole

    def resize(self, max_bytes: int | None) -> None:
        """Change the bound on bytes; what is too much goes now."""
        self._change(self._resize, _checked_bound(max_bytes, "max_bytes"))

    def _resize(self, max_bytes: int | None) -> None:
        self._log.max_bytes = max_bytes
        self._hand.fit(0)

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

    def _settle(self) -> None:
        self._hand.survey()
        self._hand.finish()

    def close(self) -> None:
        """Give the memory back; arrays that live keep theirs. Afterwards everything is a miss and `set` raises
        `ValueError`. Closing twice is fine.
        """
        self._change(self._close)
        self._listening = True
        pressure.ignore(self)

    def _close(self) -> None:
        self._closed = True
        self._flights.spoil_all()
        self._log.clear()

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

    # ---- changes

    def _change(self, action: Callable[..., T], *arguments: Any) -> T:
        """Make one change under the lock.

        A finalizer or a key's `__eq__` may call back while its own thread is in the middle of a change: such a
        change is made when the outer one is done (and answers None). A change that was cut short, by
        KeyboardInterrupt or in a forked child, is mended before the next.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._later.append((action, arguments))
            return cast(T, None)
        with self._lock:
            if self._torn:
                self._log.mend()
            self._torn = True
            result = action(*arguments)
            while self._later:
                later, its = self._later.pop(0)
                later(*its)
            self._torn = False
        if not self._listening and self._log.by_number:
            self._listening = True
            pressure.listen(self)
        if self._notices is not None and self._notices.due:
            self._notices.deliver()
        return result

    def _under_pressure(self) -> None:
        """Memory grows short somewhere: see what was lost, and let the kernel have what is still being filled."""
        self._change(self._give_way)

    def _give_way(self) -> None:
        self._log.seal_all(at_least=WORTH_SEALING // max(1, len(logs)))
        self._log.spare.clear()
        self._hand.survey()
        self._log.clean(4096)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._later.clear()
        self._torn = True
        self._listening = self._closed
        self._flights.forget_other_threads()
        if self._notices is not None:
            self._notices.after_fork()
        if not self._inherit:
            self._log.clear()
            self._hand.lift()


def _page_tables(nbytes: int) -> int:
    """What the kernel takes beside the pages, and a little for what else happens meanwhile."""
    return nbytes // 256 + (1 << 20)


def _as_bytes(part: Any) -> Any:
    return part if isinstance(part, bytes | bytearray | memoryview) else part.tobytes("A")


def _checked_ttl(ttl: float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, str | bytes):  # which float() would read
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r}")
    try:
        seconds = float(ttl)
    except OverflowError:
        seconds = math.inf if ttl > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r}") from None
    if not seconds >= 0:
        raise ValueError(f"ttl must not be negative, not {ttl!r}")
    return seconds


def _checked_bound(bound: int | None, what: str) -> int | None:
    if bound is None:
        return None
    try:
        number = index(bound)
    except TypeError:
        raise TypeError(f"{what} must be an integer or None, not {bound!r}") from None
    if number < 0:
        raise ValueError(f"{what} must not be negative, not {bound!r}")
    return number
