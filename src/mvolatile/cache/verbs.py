"""What a framework's backend asks of a cache beside the mapping: add, touch, incr, and many at once.

Each is one step to all threads of the process. A locator is never used twice, so "the value is what it was" is that
the index still has the locator that was read: whoever comes too late reads again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from .._core import MISSING
from ..errors import Purged
from .addresses import OutOfMemoryError
from .checks import TimeToLive, checked_ttl, seconds_to_live
from .segment import KIND_BITS, NUMBER_SHIFT, SLOTS, Range, Shelf
from .storing import Storing
from .values import EXPIRES, EXPIRY

__all__ = ["Verbs"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Entry(NamedTuple):
    """A value that is there."""

    locator: int
    shelf: Shelf
    expires: float | None

    @property
    def slot(self) -> int:
        """Where on its shelf."""
        return self.locator >> KIND_BITS & SLOTS - 1


class Condition:
    """In place of a flight: what is asked under the lock, in the moment before a value is stored."""

    __slots__ = ("_cache", "_key", "_locator", "met")

    def __init__(self, cache: Verbs[Any, Any], key: Hashable, locator: int | None) -> None:
        self._cache = cache
        self._key = key
        self._locator = locator
        self.met = True  # a finalizer asks in the middle of a change: it is stored afterwards

    @property
    def stale(self) -> bool:
        """Whether the key has another value by now than at `locator`, or with None any."""
        entry = self._cache._entry(self._key)
        self.met = (None if entry is None else entry.locator) == self._locator
        if self.met:
            self._cache._flights.spoil(self._key)
        return not self.met


class Verbs(Storing[K, V]):
    """The verbs of `VolatileCache`."""

    def _entry(self, key: Any) -> Entry | None:
        """What `key` has, under the lock: neither lost nor expired. Counts and marks nothing."""
        locator = self._index.get(key)
        shelf = None if locator is None else self._log.by_number.get(locator >> NUMBER_SHIFT)
        if locator is None or shelf is None:
            return None
        entry = Entry(locator, shelf, None)
        try:
            tail = shelf.probe(entry.slot)
        except (Purged, KeyError):
            return None
        if isinstance(shelf, Range):
            return entry._replace(expires=shelf.expires)
        if not locator & EXPIRES:
            return entry
        expires = EXPIRY.unpack(tail[-EXPIRY.size :])[0]
        return None if self._timer() >= expires else entry._replace(expires=expires)

    def _look(self, key: Any) -> Entry | None:
        if self._lock._is_owned():  # type: ignore[attr-defined]
            return self._entry(key)  # in the middle of a change, which may not be changed, but read
        return self._change(self._entry, key)

    def ttl(self, key: K) -> float | None:
        """The seconds that the value of `key` has still to live, `math.inf` for ever; None if there is no value.

        Counts as no use. The kernel may take the value earlier.
        """
        entry = self._look(key)
        if entry is None:
            return None
        return math.inf if entry.expires is None else entry.expires - self._timer()

    def touch(self, key: K, ttl: TimeToLive = None) -> bool:
        """Have the value live `ttl` seconds from now on (default: the cache's `ttl`; `math.inf` for ever; 0 deletes
        it). False if there is none, or if there is no memory to move it to, and then it is gone. Counts as use.
        Nothing is made anew, and a large value is not copied. Errors as for `set`'s `ttl`.
        """
        ttl = self._ttl if ttl is None else checked_ttl(ttl)
        value = self._find(key) if callable(ttl) else None
        if value is MISSING:
            return False
        lives = seconds_to_live(ttl, value)
        return bool(self._change(self._touch, key, lives))

    def _touch(self, key: Any, lives: float | None) -> bool:
        entry = self._entry(key)
        if entry is None:
            return False
        if lives is not None and lives <= 0:
            self._log.remove(key, entry.locator, "expired")
            return True
        expires = None if lives is None or lives == math.inf else self._timer() + lives
        self._hand.sweeper.needed |= expires is not None
        entry.shelf.mark(entry.slot)
        if isinstance(entry.shelf, Range):
            entry.shelf.expires = expires
            return True
        kind = entry.locator & (1 << KIND_BITS) - 1
        try:
            data = entry.shelf.fetch(entry.slot)
        except Purged:
            return False
        if kind & EXPIRES:
            kind, data = kind & ~EXPIRES, data[: -EXPIRY.size]
        if expires is not None or not data:
            kind, data = kind | EXPIRES, data + EXPIRY.pack(math.inf if expires is None else expires)
        try:
            self._log.put(key, kind, data, None, mark=1)
        except OutOfMemoryError:  # to leave it would be to let it live as long as before
            self._log.remove(key, entry.locator, "evicted")
            return False
        self._hand.fit(0)
        self._hand.tidy()
        return True

    def add(self, key: K, value: V, *, ttl: TimeToLive = None) -> bool:
        """Store `value` if the key has none: of all threads that add at once one gets True, and the others False. Else
        as `set`, with its errors.

        True tells that no value stood there, not that this one stays: the kernel may take it at any time, as if it had
        never been added, and where there is no room for it that is at once.
        """
        if self._look(key) is not None:
            return False
        condition = Condition(self, key, None)
        self._store_if_room(key, value, ttl, condition)
        return condition.met

    def incr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """Add `delta` to the number that `key` has, and answer the sum; no thread's is lost. It lives as long as it
        would have. Without a value `default` plus `delta` is stored, or with None `KeyError` raised.

        The kernel may take the value at any time, and counting begins anew then: what must not be lost is not for a
        cache.
        """
        while True:
            entry = self._look(key)
            value = MISSING if entry is None else self._find(key)
            if entry is None or value is MISSING:
                if default is None:
                    raise KeyError(key)
                if self.add(key, default + delta):
                    return default + delta
                continue
            total = value + delta
            condition = Condition(self, key, entry.locator)
            until = math.inf if entry.expires is None else entry.expires
            self._store_if_room(key, total, None, condition, until)
            if condition.met:
                return total

    def decr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """As `incr`, less `delta`."""
        return self.incr(key, -delta, default=default)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those of `keys` that are there, in their order, each read when its turn comes: a value that was
        set meanwhile may be among them. Each counts as a hit or a miss. `TypeError` for a key that cannot be hashed.
        """
        found = {}
        for key in keys:
            value = self._find(key)
            if value is MISSING:
                self._count_miss()
            else:
                found[key] = value
        return found

    def set_many(self, values: Mapping[K, V] | Iterable[tuple[K, V]], *, ttl: TimeToLive = None) -> None:
        """Store every pair of a mapping or an iterable, as `set`, one after the other: others may see some of them.
        What `set` raises for one of them ends it: those before it are stored, those after it are not.
        """
        for key, value in values.items() if isinstance(values, Mapping) else values:
            self._store_if_room(key, value, ttl, None)
