"""What a store does under the cache's lock, in a change: others go, and the value enters."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .. import _core
from ..errors import Purged
from ..memory import VolatileMemory
from .addresses import OutOfMemoryError
from .cost import UNKNOWN
from .parts import Parts
from .reading import Reading
from .store import KIND_MASK, LargeValue, read_bytes, read_held
from .values import ARRAY, BYTES, EXPIRES, EXPIRY, MADE, Encoded, array_maker

__all__ = ["AT_ONCE", "STORED", "TRIES_TO_STORE", "Entering"]

STORED = -1
"""No queue."""

AT_ONCE = 256 << 10
"""Values below that size are copied under the cache's lock, where that spares taking it twice."""

TRIES_TO_STORE = 20
"""Where no memory is to be had, so often others are given up for a value."""


class Entering:
    """Of one cache. All is called in a change, but for `_large`."""

    def __init__(self, parts: Parts, reading: Reading) -> None:
        self._parts, self._reading = parts, reading
        self._store, self._reclaimer = parts.store, parts.reclaimer
        self._room_made: tuple[int, int, int] | None = None  # for a key's hash, so many bytes; in which queue

    def _stands(self, key: Any, call: Any) -> bool:
        """Whether a value may be stored: not one that was made while its key was set, deleted or cleared."""
        if self._parts.closed:
            return False
        if call is None:
            self._parts.calls.invalidate(key)
        elif call.stale:
            return False
        if self._parts.tags is not None:
            self._parts.tags.note(key, None if call is None else call.tag)
        return True

    def _put_small(self, key: Any, kind: int, data: bytes, call: Any, cost: int) -> None:
        if self._stands(key, call):
            queue = self._reclaimer.make_room(len(data), key, cost)
            if self._parts.budget.max_entries is not None:
                self._reclaimer.make_place(key)
            try:
                self._store.put_small(key, kind, data, queue=queue, cost=cost)
            except OutOfMemoryError:
                self._put_instead_of_others(key, kind, data, queue, cost)
            self._parts.residence.keep_own()  # what moved may have taken a segment of its own
            self._reclaimer.tidy()
            if not kind & EXPIRES:
                self._parts.arm()

    def put_full(self, key: Any, kind: int, data: bytes) -> bool:
        """For `Lookup.put`, in a change: a value for which others may have to go. False, and nothing has changed,
        where the long way is to be gone.
        """
        parts, reclaimer, store = self._parts, self._reclaimer, self._store
        budget, nbytes = parts.budget, len(data)
        most, bounded = budget.max_bytes, budget.max_entries is not None
        if (most is not None and nbytes > most) or store.dropped or store.sparse:
            return False
        if store.is_large(nbytes):
            is_full = budget.excess(nbytes) > 0 or budget.is_full(len(store.index))
            if not is_full or parts.residence.is_bounded:  # fresh memory is not filled under the lock
                return False
            return self._put_large_in_full(key, kind, data)
        queue = reclaimer.make_room(nbytes, key)
        if bounded:
            reclaimer.make_place(key)
        try:
            store.put_small(key, kind, data, queue=queue)
        except OutOfMemoryError:
            self._put_instead_of_others(key, kind, data, queue, UNKNOWN)
        parts.residence.keep_own()
        reclaimer.tidy()
        if not (reclaimer.is_tight or bounded) and parts.policy.indifferent() > 0:
            parts.arm()
        return True

    def _put_large_in_full(self, key: Any, kind: int, data: bytes) -> bool:
        """The memory is that of a value that left, nearly always. Where it is not, and the copy would take long, room
        is made, and the rest is for the long way.
        """
        reclaimer, addresses, store, nbytes = self._reclaimer, self._parts.addresses, self._store, len(data)
        queue = reclaimer.policy.stored(key, nbytes, UNKNOWN)
        reclaimer.fit(nbytes, key)
        memory = addresses.store_in_kept([data], nbytes)
        while memory is None:
            if nbytes >= AT_ONCE:
                self._room_made = hash(key), nbytes, queue
                return False
            try:
                memory = addresses.store(Encoded(kind, [data], nbytes))
            except OutOfMemoryError:
                if not reclaimer.give_up(nbytes):
                    raise  # what was changed is mended, and the long way gone
        if _core.refusal(memory) == errno.ENOMEM:
            raise OutOfMemoryError
        reader = read_bytes if kind == BYTES else read_held
        reclaimer.make_place(key)
        store.put_large(LargeValue(store.next_number(), key, kind, nbytes, memory, reader, queue))
        reclaimer.tidy()
        return True

    def _make_room(self, nbytes: int, key: Any, cost: int) -> int:
        """For a large value; the policy is told of it once."""
        made, self._room_made = self._room_made, None
        if made is None or made[:2] != (hash(key), nbytes):
            return self._reclaimer.make_room(nbytes, key, cost)
        self._reclaimer.fit(nbytes, key)
        return made[2]

    def _put_at_once(
        self, key: Any, encoded: Encoded, expires: float | None, call: Any, cost: int
    ) -> int | None:
        """In one change, if there is memory of a value that left, as there is in a full cache: `STORED`, or the queue
        for a value that is to be stored in two. The copy is made under the lock, so it must not be long.
        """
        if not self._stands(key, call):
            return STORED
        reclaimer = self._reclaimer
        queue = reclaimer.make_room(encoded.nbytes, key, cost)
        memory = self._parts.addresses.store_in_kept(encoded.parts, encoded.nbytes)
        value = None if memory is None else self._large(key, encoded, memory, queue, expires, cost)
        if value is None:
            return queue
        reclaimer.make_place(key)
        self._store.put_large(value)
        self._parts.residence.keep_own()
        reclaimer.tidy()
        if call is None and not cost:  # as those may be that go by one call
            self._arm_if_full(encoded.nbytes)
        return STORED

    def _arm_if_full(self, nbytes: int) -> None:
        """The next one of so many bytes goes by one call, if others have to go for it."""
        budget = self._parts.budget
        if budget.max_entries is not None or budget.excess(nbytes) > 0:
            self._parts.arm()

    def _put_instead_of_others(self, key: Any, kind: int, data: bytes, queue: int, cost: int) -> None:
        for _ in range(TRIES_TO_STORE):
            if not self._reclaimer.give_up(self._store.segment_bytes()):
                break
            with suppress(OutOfMemoryError):
                self._store.put_small(key, kind, data, queue=queue, cost=cost)
                return
        self._store.remove(key, None, "replaced")

    def _enter(self, value: LargeValue, call: Any) -> None:
        (key,) = value.keys
        if self._stands(key, call):
            self._reclaimer.fit(value.used, key)
            self._reclaimer.make_place(key)
            self._store.put_large(value)
            self._parts.residence.keep_own()
            self._reclaimer.tidy()
            self._arm_if_full(value.used)

    def _put_nothing(self, key: Any, call: Any) -> None:
        if self._stands(key, call):
            self._store.remove(key, None, "replaced")
            if self._parts.tier is not None and not getattr(call, "loaded", False):
                self._parts.tier.delete(key)

    def touch(self, key: Any, lives: float | None) -> bool:
        """Have the value of `key` live so many seconds from now on; False if there is none."""
        parts, entry = self._parts, self._reading.entry(key)
        if entry is None:
            return False
        if lives is not None and lives <= 0:
            self._store.remove(key, entry.locator, "expired")
            return True
        expires = None if lives is None or lives == math.inf else parts.timer() + lives
        parts.expirer.needed |= expires is not None
        entry.region.visit(entry.slot)
        if isinstance(entry.region, LargeValue):
            entry.region.expires = expires
            return True
        kind = entry.locator & KIND_MASK
        try:
            data = entry.region.read(entry.slot)
        except Purged:
            return False
        if kind & EXPIRES:
            kind, data = kind & ~EXPIRES, data[: -EXPIRY.size]
        if expires is not None or not data:
            kind, data = kind | EXPIRES, data + EXPIRY.pack(math.inf if expires is None else expires)
        try:
            cost = entry.region.cost(entry.slot)
            self._store.put_small(key, kind, data, None, visits=1, cost=cost)
        except OutOfMemoryError:  # to leave it would be to let it live as long as before
            self._store.remove(key, entry.locator, "evicted")
            return False
        self._reclaimer.fit(0)
        self._reclaimer.tidy()
        return True

    def remove(self, key: Any) -> bool:
        """Deleted; what is being made for the key is out of date. Whether there was an entry."""
        self._parts.calls.invalidate(key)
        if self._parts.tier is not None:
            self._parts.tier.delete(key)
        removed = self._store.remove(key, None, "deleted")
        self._reclaimer.tidy()
        return removed

    def take(self, key: Any, locator: int | None) -> bool:
        """Locators are never used twice: if it is there still, it is the value that was read."""
        if self._parts.index.get(key) != locator:
            return False
        self.remove(key)
        return True

    def _large(
        self,
        key: Any,
        encoded: Encoded,
        memory: VolatileMemory,
        queue: int,
        expires: float | None,
        cost: int,
    ) -> LargeValue | None:
        """None where it would stay for want of memory; a lock, which is the program's will, is EINVAL."""
        if _core.refusal(memory) == errno.ENOMEM:
            return None
        kind, reader = _reader(encoded)
        number = self._store.next_number()
        return LargeValue(number, key, kind, encoded.nbytes, memory, reader, queue, expires, cost)


def _reader(encoded: Encoded) -> tuple[int, Callable[[VolatileMemory, int], Any]]:
    """The kind to store, and how a hit reads it: an array is made over the memory, bytes are copied."""
    if encoded.kind == ARRAY:
        make = array_maker(encoded)
        return MADE, lambda memory, nbytes: make(read_held(memory, nbytes))
    return encoded.kind, read_bytes if encoded.kind == BYTES else read_held
