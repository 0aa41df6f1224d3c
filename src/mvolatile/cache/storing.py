"""Storing: a value as bytes, where it goes, what goes for it, and what is done where no memory is to be had."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

from ..errors import NoRoomError, TooLargeError
from ..kernel.room import address_room, room
from ..memory import VolatileMemory
from .addresses import OutOfMemoryError, for_want_of_room
from .calls import Call
from .checks import TimeToLive, seconds_to_live
from .cost import UNKNOWN, class_of
from .entering import AT_ONCE, STORED, TRIES_TO_STORE, Entering
from .singleflight import Terms
from .stopped import raise_if_stopped
from .store import FRESH
from .values import EXPIRES, EXPIRY, STR, Encoded, decode, encode

__all__ = ["Storing", "bytes_of"]

WORTH_ASKING = 32 << 20
"""Before storing values from this size on, the kernel is asked whether there is room: half a millisecond."""


class Storing(Entering):
    """Of one cache. `call` is the making that brings a value, or None, or whatever else is `stale` when the value may
    not be stored any more.
    """

    def store(
        self,
        key: Any,
        value: Any,
        ttl: TimeToLive,
        call: Any = None,
        until: float | None = None,
        cost: int = UNKNOWN,
    ) -> None:
        """Where no memory is to be had the older value goes, and nothing is stored: as if the kernel had taken it.

        `until`: when its time is over by the cache's clock, instead of `ttl`; infinite for never. `cost` is the
        class of what it took to make.
        """
        try:
            self._put(key, value, ttl, call, until, cost)
        except (MemoryError, OSError) as error:
            if not for_want_of_room(error):
                raise
            self._parts.give_way_to_program()
            self._parts.change(self._put_nothing, key, call)

    def _put(self, key: Any, value: Any, ttl: TimeToLive, call: Any, until: float | None, cost: int) -> None:
        key_hash, parts = hash(key), self._parts
        if parts.closed:
            raise ValueError(f"{parts!r}: nothing can be stored")
        lives = None if ttl is None is parts.ttl else self._lives(ttl, value)
        if lives is not None and lives <= 0:
            self._parts.change(self._put_nothing, key, call)
            return
        expires = None if lives is None or lives == math.inf else parts.timer() + lives
        if until is not None:
            expires = None if until == math.inf else until
        if call is None and not cost:
            self._put_bytes(key, value, expires, None, UNKNOWN)
            return
        guard, entries, guarded = parts.guard, len(parts.index), self._may_be_refused(call, cost)
        if guarded and guard.share < 1 and not isinstance(call, Call) and self._is_refused(key, call):
            return
        if cost:
            cost = parts.costs.smoothed(key_hash, cost, entries)
        began, before = perf_counter(), self._departed()
        self._put_bytes(key, value, expires, call, cost)
        if guarded:
            guard.stored(perf_counter() - began, self._departed() > before, entries)

    def _is_refused(self, key: Any, call: Any) -> bool:
        """By the guard; if so, what was there goes."""
        parts = self._parts
        if parts.guard.admits(hash(key), parts.policy.wanted(key), len(parts.index)):
            return False
        if key in parts.index or not isinstance(call, Call):
            parts.change(self._put_nothing, key, call)
        return True

    def _may_be_refused(self, call: Any, cost: int) -> bool:
        """What was made here, for its maker has it; and what a program sets of which it told the cost, where the kernel
        alone says how much there may be. Else it has what it set.
        """
        if self._parts.tier is not None:  # what is not stored here would not be written there
            return False
        budget = self._parts.budget
        return isinstance(call, Call) or (cost > 0 and budget.max_bytes is None is budget.max_entries)

    def _departed(self) -> int:
        return self._reclaimer.given_up + self._store.purged

    def _put_bytes(self, key: Any, value: Any, expires: float | None, call: Any, cost: int) -> None:
        parts, budget = self._parts, self._parts.budget
        encoded = encode(value, parts.codec, parts.copy)
        if expires is not None:
            parts.expirer.needed = True
        elif not encoded.nbytes:
            expires = math.inf  # takes some bytes: else nothing would bound how many there are
        most = budget.max_bytes
        nbytes = encoded.nbytes + (0 if expires is None else EXPIRY.size)
        if (most is not None and nbytes > most) or budget.max_entries == 0:
            self._parts.change(self._put_nothing, key, call)
            if budget.max_entries == 0:
                return
            raise TooLargeError(f"a value that takes {nbytes} bytes is larger than max_bytes={most}")
        if self._store.is_large(nbytes):
            self._check_residence(key, nbytes, call)
        if nbytes >= WORTH_ASKING and (has := room()) is not None and nbytes + _page_tables(nbytes) > has:
            self._parts.change(self._put_nothing, key, call)
            raise NoRoomError(f"a value of {encoded.nbytes} bytes, but there is room for {max(0, has)}")
        if parts.written is not None and not getattr(call, "loaded", False):
            call = parts.written(key, encoded, expires, call, cost)
        if self._store.is_large(nbytes):
            self._put_large(key, encoded, expires, call, cost)
            return
        kind, data = encoded.kind, _joined(encoded.parts)
        if expires is not None:
            kind, data = kind | EXPIRES, bytes(data) + EXPIRY.pack(expires)
        if (
            STR < kind < EXPIRES
            and type(data) is bytes
            and parts.lookup.put_laid_out(key, kind, data, call, cost)
        ):
            return  # bytes and text were tried before they were laid out
        parts.change(self._put_small, key, kind, data, call, cost)

    def _check_residence(self, key: Any, nbytes: int, call: Any) -> None:
        try:
            self._parts.residence.check(nbytes)
        except TooLargeError:
            self._parts.change(self._put_nothing, key, call)
            raise

    def _put_large(self, key: Any, encoded: Encoded, expires: float | None, call: Any, cost: int) -> None:
        change, nbytes = self._parts.change, encoded.nbytes
        queue: int | None
        if nbytes >= AT_ONCE or self._parts.lookup.torn:
            queue = change(self._make_room, nbytes, key, cost)
        else:
            queue = change(self._put_at_once, key, encoded, expires, call, cost)
            if queue == STORED:
                return
        value = self._large(key, encoded, self._memory_for(encoded), queue or FRESH, expires, cost)
        if value is None:
            raise OutOfMemoryError
        change(self._enter, value, call)

    def _memory_for(self, encoded: Encoded) -> VolatileMemory:
        """With a large value in it. Others are given up for it, but not where that cannot be enough."""
        nbytes = encoded.nbytes
        for _ in range(TRIES_TO_STORE):
            try:
                return self._parts.addresses.store(encoded)
            except OutOfMemoryError:
                pass
            has = address_room()
            if has is not None and has + self._store.nbytes < nbytes:
                break
            if self._parts.change(self._reclaimer.give_up, nbytes) is not True:
                break
        raise OutOfMemoryError

    def store_made(self, key: Any, value: Any, terms: Terms, call: Any) -> None:
        """Whatever keeps it from being stored is no reason to lose it: its maker has it still."""
        parts = self._parts
        if terms.condition is not None and not terms.condition(value):
            return
        lives: float | None = None
        if terms.ttl is not None or parts.ttl is not None:
            lives = self._lives(terms.ttl, value)
            lives = math.inf if lives is None else lives
        if terms.weak:
            parts.expirer.needed = True
        if call.tag is not None:
            parts.change(parts.begin_tags)
        seconds = call.seconds if terms.timed else None
        if seconds is not None:
            parts.lookup.spend(seconds)
        if parts.closed:
            return
        try:
            # First of all: where the guard refuses most, what is done here before is what the cache costs.
            if parts.guard.share < 1 and parts.tier is None and self._is_refused(key, call):
                return
            cost = UNKNOWN if seconds is None else class_of(seconds)
            if lives is not None or terms.weak or not parts.lookup.put(key, value, call, cost):
                self.store(key, value, lives, call, cost=cost)
        except TooLargeError:
            if parts.unstorable == "raise":
                raise
        except Exception as error:
            raise_if_stopped(error)
            if isinstance(error, MemoryError | OSError) or parts.unstorable == "warn":
                parts.tell_trouble(error)
            elif parts.unstorable == "raise":
                raise

    def _lives(self, ttl: Any, value: Any) -> float | None:
        """The seconds that `value` is to live; None for ever."""
        own = seconds_to_live(ttl, value)
        return seconds_to_live(self._parts.ttl, value) if own is None else own

    # ---- for those who wait for a value that was not stored

    def lay_out(self, value: Any) -> Any:
        """The value as it would be stored, in ordinary memory; None if that cannot be, or would take much."""
        try:
            encoded = encode(value, self._parts.codec, self._parts.copy)
            if encoded.nbytes >= WORTH_ASKING:
                return None
            return encoded.kind, b"".join(map(_as_bytes, encoded.parts))
        except Exception as error:
            raise_if_stopped(error)
            return None

    def make_again(self, layout: tuple[int, bytes]) -> Any:
        """The value of a layout."""
        return decode(*layout, self._parts.codec)


def _page_tables(nbytes: int) -> int:
    """What the kernel takes beside the pages, and a little for what else happens meanwhile."""
    return nbytes // 256 + (1 << 20)


def _joined(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else b"".join(map(_as_bytes, parts))


def bytes_of(encoded: Encoded) -> bytes:
    """A value's bytes in one piece, which nobody changes."""
    data = _joined(encoded.parts)
    return data if type(data) is bytes else bytes(data)


def _as_bytes(part: Any) -> Any:
    return part if isinstance(part, bytes | bytearray | memoryview) else part.tobytes("A")
