"""What a framework's backend asks of a cache beside the mapping: add, touch, incr, and many at once.

Each is one step to all processes: the keeper makes a change only if the key has the version that was read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._core import MISSING
from . import keys
from .access import Access, check
from .values import TimeToLive, checked_cost, checked_ttl, seconds_to_live
from .wire import ABSENT, ANY, Flag, Op, Request, Status

__all__ = ["Verbs"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Verbs(Generic[K, V]):
    """The verbs of `SharedCache`."""

    _access: Access
    _find: Callable[[Any], Any]

    if TYPE_CHECKING:

        def set(
            self, key: K, value: V, *, ttl: TimeToLive = None, tag: Hashable = None, cost: float | None = None
        ) -> None:
            """See `SharedCache.set`."""

    def ttl(self, key: K) -> float | None:
        """The seconds that the value of `key` has still to live, `math.inf` for ever; None if there is no value."""
        self._access.bring(key)
        found = self._access.probe(key)
        return None if found is None else self._access.seconds_until(found[1])

    def touch(self, key: K, ttl: TimeToLive = None) -> bool:
        """Have the value live `ttl` seconds from now on (default: the cache's `ttl`; `math.inf` for ever; 0 deletes
        it). False if there is none. Nothing is copied.
        """
        ttl = self._access.ttl if ttl is None else checked_ttl(ttl)
        if self._access.second is not None:
            return self._touch_both(key, ttl)
        version = ANY
        value = None
        if callable(ttl):
            entry = self._access.entry(key)
            if entry is None:
                return False
            version, value = entry[0], self._access.decoded(key, entry[2], entry[3])
        lives = seconds_to_live(ttl, value)
        if lives is not None and lives <= 0:
            return self._access.delete(key, version)
        seconds = math.inf if lives is None else lives
        reply = self._access.connections.tell(
            Request(Op.TOUCH, keys.encode(key), seconds=seconds, version=version)
        )
        return reply is not None and reply.status == Status.OK

    def _touch_both(self, key: K, ttl: TimeToLive) -> bool:
        """In memory, and behind: stored anew, if it is the value that was read."""
        access = self._access
        access.bring(key)
        while (entry := access.entry(key)) is not None:
            value = access.decoded(key, entry[2], entry[3])
            if value is MISSING:
                break
            reply = access.store(key, value, math.inf if ttl is None else ttl, version=entry[0])
            check(reply)
            if reply is None or reply.status == Status.OK:
                return reply is not None
        return False

    def add(
        self, key: K, value: V, *, ttl: TimeToLive = None, tag: Hashable = None, cost: float | None = None
    ) -> bool:
        """Store `value` if the key has none: of all processes that add at once one gets True."""
        access = self._access
        there = access.use_tag(tag)
        access.bring(key)
        reply = access.store(key, value, ttl, version=ABSENT, cost=checked_cost(cost), tag=there)
        check(reply)
        return reply is None or reply.status == Status.OK

    def incr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """Add `delta` to the number that `key` has, and answer the sum; no process's is lost. It lives as long as it
        would have. Without a value `default` plus `delta` is stored, or with None `KeyError` raised.

        The kernel may take the value at any time, and counting begins anew then.
        """
        self._access.bring(key)
        while True:
            entry = self._access.entry(key)
            value = MISSING if entry is None else self._access.decoded(key, entry[2], entry[3])
            if entry is None or value is MISSING:
                if default is None:
                    raise KeyError(key)
                if self.add(key, default + delta):
                    return default + delta
                continue
            total = value + delta
            reply = self._access.store(
                key, total, math.inf, version=entry[0], flags=Flag.KEEP_EXPIRY, until=entry[1]
            )
            check(reply)
            if reply is None or reply.status == Status.OK:
                return total

    def decr(self, key: K, delta: Any = 1, *, default: Any = None) -> Any:
        """As `incr`, less `delta`."""
        return self.incr(key, -delta, default=default)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those of `keys` that are there."""
        found = {}
        for key in keys:
            value = self._find(key)
            if value is MISSING:
                value = self._access.missed(key)
            if value is not MISSING:
                found[key] = value
        return found

    def set_many(
        self,
        values: Mapping[K, V] | Iterable[tuple[K, V]],
        *,
        ttl: TimeToLive = None,
        tag: Hashable = None,
        cost: float | None = None,
    ) -> None:
        """Store every pair of a mapping or an iterable, as `set`, one after the other. `cost`: seconds that each
        took.
        """
        pairs: Any = values.items() if isinstance(values, Mapping) else values
        for key, value in pairs:
            self.set(key, value, ttl=ttl, tag=tag, cost=cost)
