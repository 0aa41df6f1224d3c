"""Storing: a value as bytes, where it goes, what goes for it, and what is done where no memory is to be had."""

from __future__ import annotations

import errno
import math
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, TypeVar

from .. import _core
from ..errors import NoRoomError, TooLargeError
from ..kernel.room import address_room, room
from ..memory import VolatileMemory
from .addresses import OutOfMemoryError, for_want_of_room
from .checks import TimeToLive, seconds_to_live
from .engine import Engine
from .flights import Terms
from .segment import Range
from .stopped import raise_if_stopped
from .values import EXPIRES, EXPIRY, decode, encode

__all__ = ["Storing"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OWN_RANGE = 64 << 10
"""Values from this size on get memory of their own: a hit is a system call or two, and no copy."""

OWN_PAGES = 16 << 10
"""So do those from this size on that would waste much of a segment; smaller ones would waste much of a page."""

WORTH_ASKING = 32 << 20
"""Before storing values from this size on, the kernel is asked whether there is room: half a millisecond."""

TRIES_TO_STORE = 20
"""Where no memory is to be had, so often others are given up for a value."""


class Storing(Engine[K, V]):
    """The writing half of `VolatileCache`."""

    def _store(self, key: Any, value: Any, ttl: TimeToLive, flight: Any, until: float | None = None) -> None:
        """`until`: when its time is over by the cache's clock, instead of `ttl`; infinite for never."""
        hash(key)
        if self._closed:
            raise ValueError(f"{self!r}: nothing can be stored")
        lives = None if ttl is None is self._ttl else self._lives(ttl, value)
        if lives is not None and lives <= 0:
            self._change(self._put_nothing, key, flight)
            return
        expires = None if lives is None or lives == math.inf else self._timer() + lives
        if until is not None:
            expires = None if until == math.inf else until
        encoded = encode(value, self._codec, self._copy)
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
            self._change(self._hand.make_room, encoded.nbytes, key)
            memory = self._memory_for(max(1, encoded.nbytes))
            shelf = Range(self._log.next_number(), key, encoded, memory, expires, self._timer)
            if (
                _core.refusal(memory) == errno.ENOMEM
            ):  # it would stay; a lock, which is the program's will, is EINVAL
                raise OutOfMemoryError
            self._change(self._put_range, shelf, flight)
            return
        parts, kind = encoded.parts, encoded.kind
        if expires is not None:
            parts, kind = [*parts, EXPIRY.pack(expires)], kind | EXPIRES
        data = parts[0] if len(parts) == 1 else b"".join(map(_as_bytes, parts))
        self._change(self._put, key, kind, data, flight)

    def _store_if_room(
        self, key: Any, value: Any, ttl: TimeToLive, flight: Any, until: float | None = None
    ) -> None:
        """As `_store`; where no memory is to be had the older value goes, and nothing is stored: as if the kernel had
        taken it.
        """
        try:
            self._store(key, value, ttl, flight, until)
        except (MemoryError, OSError) as error:
            self._do_without(key, flight, error)

    def _do_without(self, key: Any, flight: Any, error: Exception) -> None:
        """`_store` raised `error`."""
        if not for_want_of_room(error):
            raise error
        self._give_way_to_program()
        self._change(self._put_nothing, key, flight)

    def _memory_for(self, nbytes: int) -> VolatileMemory:
        """For a large value. Others are given up for it, but not where that cannot be enough."""
        for _ in range(TRIES_TO_STORE):
            with suppress(OutOfMemoryError):
                return self._addresses.take(nbytes)
            has = address_room()
            if has is not None and has + self._log.nbytes < nbytes:
                break
            if self._change(self._hand.give_up, nbytes) is not True:
                break
        raise OutOfMemoryError

    def _store_made(self, key: Any, value: Any, terms: Terms, flight: Any) -> None:
        """Whatever keeps it from being stored is no reason to lose it: its maker has it still."""
        if terms.condition is not None and not terms.condition(value):
            return
        lives: float | None = None
        if terms.ttl is not None or self._ttl is not None:
            lives = self._lives(terms.ttl, value)
            lives = math.inf if lives is None else lives
        if terms.weak:
            self._hand.sweeper.needed = True
        if self._closed:
            return
        try:
            self._store_if_room(key, value, lives, flight)
        except TooLargeError:
            pass
        except Exception as error:
            self._tell_trouble(error)

    def _lives(self, ttl: Any, value: Any) -> float | None:
        """The seconds that `value` is to live; None for ever."""
        own = seconds_to_live(ttl, value)
        return seconds_to_live(self._ttl, value) if own is None else own

    def _holds(self, key: Any) -> bool:
        """Whether there is an entry, perhaps one that is lost already."""
        return key in self._index

    def _lay_out(self, value: Any) -> Any:
        """The value as it would be stored, in ordinary memory; None if that cannot be, or would take much."""
        try:
            encoded = encode(value, self._codec, self._copy)
            if encoded.nbytes >= WORTH_ASKING:
                return None
            return encoded.kind, b"".join(map(_as_bytes, encoded.parts))
        except Exception as error:
            raise_if_stopped(error)
            return None

    def _make_again(self, layout: tuple[int, bytes]) -> Any:
        return decode(*layout, self._codec)

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
            self._hand.make_room(len(data), key)
            if self._hand.max_entries is not None:
                self._hand.make_place(key)
            try:
                self._log.put(key, kind, data)
            except OutOfMemoryError:
                self._put_instead_of_others(key, kind, data)
            self._hand.tidy()

    def _put_instead_of_others(self, key: Any, kind: int, data: bytes) -> None:
        for _ in range(TRIES_TO_STORE):
            if not self._hand.give_up(self._log.segment_bytes()):
                break
            with suppress(OutOfMemoryError):
                self._log.put(key, kind, data)
                return
        self._log.remove(key, None, "replaced")

    def _put_range(self, shelf: Range, flight: Any) -> None:
        if self._stands(shelf.keys[0], flight):
            self._hand.fit(shelf.used, shelf.keys[0])
            self._hand.make_place(shelf.keys[0])
            self._log.put_range(shelf)
            self._hand.tidy()

    def _put_nothing(self, key: Any, flight: Any) -> None:
        if self._stands(key, flight):
            self._log.remove(key, None, "replaced")

    def _remove(self, key: Any) -> bool:
        self._flights.spoil(key)
        removed = self._log.remove(key, None, "deleted")
        self._hand.tidy()
        return removed

    def _take(self, key: Any, locator: int | None) -> bool:
        """Locators are never used twice: if it is there still, it is the value that was read."""
        if self._index.get(key) != locator:
            return False
        self._remove(key)
        return True


def _page_tables(nbytes: int) -> int:
    """What the kernel takes beside the pages, and a little for what else happens meanwhile."""
    return nbytes // 256 + (1 << 20)


def _as_bytes(part: Any) -> Any:
    return part if isinstance(part, bytes | bytearray | memoryview) else part.tobytes("A")
