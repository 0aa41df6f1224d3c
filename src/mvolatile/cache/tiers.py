"""Between memory and what is behind it: what goes there with a store, and what comes from there on a miss.

A value that was read behind is stored in memory as one that was made: not if its key was set, deleted or cleared
meanwhile. Nor by a finalizer that asks in the middle of a change: it would be stored when the change is over, which may
be the deletion of just that key.
"""

from __future__ import annotations

import math
import time
from collections.abc import Hashable
from typing import Any

from .._core import MISSING
from .behind import Tier, Written
from .behind.pending import Load
from .behind.records import NO_END, Record
from .parts import Parts
from .stopped import raise_if_stopped
from .storing import Storing, bytes_of
from .values import Encoded, decode

__all__ = ["Loaded", "Tiers"]


class Loaded:
    """In place of a call: a value that was read behind, and is not to be written there again."""

    __slots__ = ("_call", "_load")

    tag = None
    loaded = True

    def __init__(self, load: Load, call: Any) -> None:
        self._load, self._call = load, call

    @property
    def stale(self) -> bool:
        """Whether it is what the key has no more."""
        return self._load.stale or (self._call is not None and self._call.stale)


class Tiers:
    """Of one cache."""

    def __init__(self, parts: Parts, storing: Storing, tier: Tier) -> None:
        self._parts, self._storing, self._tier = parts, storing, tier

    def written(self, key: Hashable, encoded: Encoded, expires: float | None, call: Any, cost: int) -> Any:
        """What a store of `encoded` has in place of `call`, so that it goes behind."""
        tier, nbytes = self._tier, encoded.nbytes
        there = tier.key(key)
        if there is None:
            return call
        record: Record | None = None
        if tier.pending.has_room(nbytes) if self._parts.change.is_ours else tier.room.wait(nbytes):
            ends = NO_END
            if expires is not None and expires != math.inf:
                ends = time.time() + expires - self._parts.timer()
            record = Record(there[1], encoded.kind, bytes_of(encoded), ends, cost)
        else:
            tier.pending.dropped += 1
        return Written(tier.pending, self._parts.calls, key, there[0], record, call)

    def find(self, key: Hashable) -> Any:
        """The value of `key` that is behind, from now on in memory; or `MISSING`. Counts a hit."""
        return self.load(key, None)

    def load(self, key: Hashable, call: Any) -> Any:
        """As `find`, for whoever would make it in `call` otherwise."""
        parts, tier = self._parts, self._tier
        if parts.closed:
            return MISSING
        read = tier.read(key)
        if read is None:
            return MISSING
        record, load, there = read
        try:
            if record is None:
                return MISSING
            expires = None if record.expires == NO_END else record.expires - time.time() + parts.timer()
            value = MISSING if expires is not None and parts.timer() >= expires else self._decoded(record)
            if value is MISSING:
                parts.change(self._forget, key, there, load)
                return MISSING
            if not parts.change.is_ours:
                self._keep(key, value, expires, record.cost, Loaded(load, call))
        finally:
            tier.pending.end(there, load)
        tier.hits += 1
        parts.lookup.count_hit()
        return value

    def _decoded(self, record: Record) -> Any:
        try:
            return decode(record.kind, record.data, self._parts.codec)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            self._tier.failed(error)
            return MISSING

    def _keep(self, key: Hashable, value: Any, expires: float | None, cost: int, loaded: Loaded) -> None:
        """Whatever keeps it from being stored is no reason to lose it."""
        try:
            until = math.inf if expires is None else expires
            self._storing.store(key, value, math.inf, loaded, until, cost)
        except ValueError:  # too large for this cache's bound, or the cache was closed
            pass
        except Exception as error:
            raise_if_stopped(error)
            self._parts.tell_trouble(error)

    def _forget(self, key: Hashable, there: str, load: Load) -> None:
        """Under the lock: what is there is of no use, if nothing came in its place meanwhile."""
        if not load.stale and key not in self._parts.index:
            self._tier.pending.note(there, None)

    def has(self, key: Hashable) -> bool:
        """Whether a get would find it behind. Counts nothing, and leaves it there."""
        read = None if self._parts.closed else self._tier.read(key)
        if read is None:
            return False
        record, load, there = read
        self._tier.pending.end(there, load)
        return record is not None and (record.expires == NO_END or time.time() < record.expires)
