"""What a framework's backend asks of a cache beside the mapping: add, touch, incr, and many at once.

Each is one step to all threads of the process. A locator is never used twice, so "the value is what it was" is that
the index still has the locator that was read: whoever comes too late reads again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

from .._core import MISSING, Reader
from .checks import TimeToLive, checked_ttl, seconds_to_live
from .engine import Engine
from .tags import KEEP

__all__ = ["Verbs"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Condition:
    """In place of a call: what is asked under the lock, in the moment before a value is stored."""

    __slots__ = ("_engine", "_key", "_locator", "met", "tag")

    def __init__(self, engine: Engine, key: Hashable, locator: int | None, tag: Hashable = KEEP) -> None:
        self._engine = engine
        self._key = key
        self._locator = locator
        self.tag = tag
        self.met = True  # a finalizer asks in the middle of a change: it is stored afterwards

    @property
    def stale(self) -> bool:
        """Whether the key has another value by now than at `locator`, or with None any."""
        entry = self._engine.reading.entry(self._key)
        self.met = (None if entry is None else entry.locator) == self._locator
        if self.met:
            self._engine.calls.invalidate(self._key)
        return not self.met


class Verbs(Reader[K, V]):
    """The verbs of `VolatileCache`."""

    _engine: Engine

    def ttl(self, key: K) -> float | None:
        """The seconds that the value of `key` has still to live, `math.inf` for ever; None if there is no value.

        Counts as no use. The kernel may take the value earlier.
        """
        self._engine.bring(key)
        return self._engine.reading.time_left(key)

    def touch(self, key: K, ttl: TimeToLive = None) -> bool:
        """Have the value live `ttl` seconds from now on (default: the cache's `ttl`; `math.inf` for ever; 0 deletes
        it). False if there is none, or if there is no memory to move it to, and then it is gone. Counts as use.
        Nothing is made anew, and a large value is not copied. Errors as for `set`'s `ttl`.
        """
        engine = self._engine
        ttl = engine.ttl if ttl is None else checked_ttl(ttl)
        engine.bring(key)
        if engine.tier is not None:
            return self._touch_both(key, ttl)
        value = engine.find(key) if callable(ttl) else None
        if value is MISSING:
            return False
        lives = seconds_to_live(ttl, value)
        return bool(engine.change(engine.storing.touch, key, lives))

    def _touch_both(self, key: K, ttl: TimeToLive) -> bool:
        """In memory, and behind: stored anew, if it is the value that was read."""
        engine = self._engine
        while (entry := engine.reading.look(key)) is not None:
            value = engine.find(key)
            if value is MISSING:
                break
            lives = seconds_to_live(ttl, value)
            condition = Condition(engine, key, entry.locator)
            engine.storing.store(key, value, math.inf if lives is None else lives, condition)
            if condition.met:
                return True
        return False

    def add(self, key: K, value: V, *, ttl: TimeToLive = None, tag: Hashable = None) -> bool:
        """Store `value` if the key has none: of all threads that add at once one gets True, and the others False. Else
        as `set`, with its errors.

        True tells that no value stood there, not that this one stays: the kernel may take it at any time, as if it had
        never been added, and where there is no room for it that is at once.
        """
        engine = self._engine
        engine.bring(key)
        if engine.reading.look(key) is not None:
            return False
        engine.use_tag(tag)
        condition = Condition(engine, key, None, tag)
        engine.storing.store(key, value, ttl, condition)
        return condition.met

    def incr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """Add `delta` to the number that `key` has, and answer the sum; no thread's is lost. It lives as long as it
        would have. Without a value `default` plus `delta` is stored, or with None `KeyError` raised.

        The kernel may take the value at any time, and counting begins anew then: what must not be lost is not for a
        cache.
        """
        engine = self._engine
        engine.bring(key)
        while True:
            entry = engine.reading.look(key)
            value = MISSING if entry is None else engine.find(key)
            if entry is None or value is MISSING:
                if default is None:
                    raise KeyError(key)
                if self.add(key, default + delta):
                    return default + delta
                continue
            total = value + delta
            condition = Condition(engine, key, entry.locator)
            until = math.inf if entry.expires is None else entry.expires
            engine.storing.store(key, total, None, condition, until)
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
            value = self._engine.find_anywhere(key)
            if value is MISSING:
                self._engine.count_miss()
            else:
                found[key] = value
        return found

    def set_many(
        self, values: Mapping[K, V] | Iterable[tuple[K, V]], *, ttl: TimeToLive = None, tag: Hashable = None
    ) -> None:
        """Store every pair of a mapping or an iterable, as `set`, one after the other: others may see some of them.
        What `set` raises for one of them ends it: those before it are stored, those after it are not.
        """
        for key, value in values.items() if isinstance(values, Mapping) else values:
            self._engine.storing.store(key, value, ttl, self._engine.use_tag(tag, key))

    def delete_tag(self, tag: Hashable) -> int:
        """Delete all values that were last stored with `tag`; answers how many were there. What is being made with it
        is not stored. One step to all threads. `TypeError` for one that cannot be hashed.

        >>> import mvolatile
        >>> cache = mvolatile.VolatileCache()
        >>> cache.set("article-5", b"...", tag="author-3")
        >>> cache.delete_tag("author-3")
        1
        """
        hash(tag)
        return self._engine.delete_tag(tag)
