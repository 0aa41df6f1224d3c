"""Reading: what becomes of a get that is no plain hit, and what a key has."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from .._core import MISSING
from ..errors import Purged, VolatilityWarning
from ..memory import callers_level
from .addresses import for_want_of_room
from .cost import SECONDS
from .parts import Parts
from .stopped import raise_if_stopped
from .store import KIND_MASK, LargeValue, Region, region_of, slot_of
from .values import BYTES, EXPIRES, EXPIRY, decode

__all__ = ["Entry", "Reading"]

TRIES_TO_READ = 2

EXPIRY_SIZE, _expiry = EXPIRY.size, EXPIRY.unpack


class Entry(NamedTuple):
    """A value that is there."""

    locator: int
    region: Region
    expires: float | None

    @property
    def slot(self) -> int:
        """Where in its region."""
        return slot_of(self.locator)


class Reading:
    """Of one cache. `Lookup` asks `find_carefully`, `decoded`, `not_decoded`, and with `behind` set `find_behind`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store, self._index = parts.store, parts.index
        self.find = parts.lookup.find
        self.find_behind: Callable[[Any], Any] | None = None

    def find_or_miss(self, key: Any) -> Any:
        """As `find`, for who can make the value: what the kernel refuses (memory, a mapping) is a miss."""
        try:
            return self.find(key)
        except (MemoryError, OSError) as error:
            self._parts.tell_trouble(error)
            return MISSING

    def find_carefully(self, key: Any) -> Any:
        """When something is not as usual; the value or `MISSING`.

        That is the answer too where there is no memory for what a hit would give, even after some values went.
        """
        for _ in range(TRIES_TO_READ):
            try:
                locator, data = self.fetch(key, False)
                return data if data is MISSING else self.decoded(key, locator, data)
            except (MemoryError, OSError) as error:
                if not for_want_of_room(error):
                    raise
            self._parts.give_way_to_program()
        return MISSING

    def decoded(self, key: Any, locator: int, data: Any, late: float = 0.0) -> Any:
        """The value, unless it expired `late` seconds ago, or earlier."""
        parts, kind = self._parts, locator & KIND_MASK
        if kind & EXPIRES:
            over = parts.timer() - _expiry(data[-EXPIRY_SIZE:])[0]
            if over >= late:
                self._forget_expired(key, locator, over)
                return MISSING
            data, kind = data[:-EXPIRY_SIZE], kind - EXPIRES
        if kind == BYTES and type(data) is bytes:
            return data
        try:
            return decode(kind, data, parts.codec)
        except Exception as error:
            return self.not_decoded(key, locator, error)

    def not_decoded(self, key: Any, locator: int, error: Exception) -> Any:
        """A value's class was renamed, or its file is gone: a miss. What may go well another time is raised on."""
        if isinstance(error, MemoryError | RecursionError):
            raise error
        raise_if_stopped(error)
        parts = self._parts
        first = not parts.undecodable
        parts.change(self._forget_undecodable, key, locator)
        if first:
            told = f"cannot be decoded, and is a miss. {type(error).__qualname__}: {error}"
            warnings.warn(f"{parts!r}: a value {told}", VolatilityWarning, callers_level())
        return MISSING

    def _forget_undecodable(self, key: Any, locator: int) -> None:
        if self._store.remove(key, locator, "undecodable"):
            self._parts.undecodable += 1

    def _forget_expired(self, key: Any, locator: int, over: float) -> None:
        if over >= self._parts.grace:
            self._parts.change(self._store.remove, key, locator, "expired")

    def find_late(self, key: Any, late: float) -> Any:
        """The value, if it expired less than `late` seconds ago; or `MISSING`. Counts nothing."""
        try:
            locator, data = self.fetch(key, False, late)
            return data if data is MISSING else self.decoded(key, locator, data, late)
        except (MemoryError, OSError) as error:
            self._parts.tell_trouble(error)
            return MISSING

    def fetch(self, key: Any, probe: bool, late: float = 0.0) -> tuple[int, Any]:
        """Something was not as usual: the key is not there, its segment was sealed or dropped meanwhile, or the
        value is lost. The locator and the bytes found in the end, or `MISSING`. A probe counts no visit, and copies no
        large value.
        """
        parts, store = self._parts, self._store
        while (locator := self._index.get(key)) is not None:
            region = store.regions.get(region_of(locator))
            if region is None:
                parts.change(store.forget_dangling, key, locator)
                if self._index.get(key) == locator and region_of(locator) not in store.regions:
                    break  # a finalizer asks in the middle of a change
                continue
            over = self._over(region)
            if over >= late:
                self._forget_expired(key, locator, over)
                break
            slot = slot_of(locator)
            try:
                data = region.probe(slot) if probe else region.read(slot)
            except ValueError:
                continue  # sealed at this moment
            except Purged:
                parts.change(store.lose, key, locator)
                break
            else:
                if not probe:
                    region.visit(slot)
                    if cost := region.cost(slot):
                        parts.lookup.save(SECONDS[cost])
                return locator, data
        return 0, MISSING

    def _over(self, region: Region) -> float:
        """For how long a large value has been expired: a small one's time stands with its bytes."""
        if not isinstance(region, LargeValue) or region.expires is None:
            return -math.inf
        return self._parts.timer() - region.expires

    def contains(self, key: Any) -> bool:
        """Whether a get would have been a hit now. Counts nothing, and copies no value."""
        locator, data = self.fetch(key, True)
        if data is MISSING:
            return False
        if not locator & EXPIRES:
            return True
        over = self._parts.timer() - EXPIRY.unpack_from(data, len(data) - EXPIRY_SIZE)[0]
        if over >= 0:
            self._forget_expired(key, locator, over)
        return bool(over < 0)

    def go_on(self) -> None:
        """Changes were put off while something was stored in one call: make them."""
        self._parts.change(int)

    # ---- under the lock

    def entry(self, key: Any) -> Entry | None:
        """What `key` has, under the lock: neither lost nor expired. Counts nothing."""
        locator = self._index.get(key)
        region = None if locator is None else self._store.regions.get(region_of(locator))
        if locator is None or region is None or self._over(region) >= 0:
            return None
        entry = Entry(locator, region, None)
        try:
            tail = region.probe(entry.slot)
        except Purged:
            return None
        if isinstance(region, LargeValue):
            return entry._replace(expires=region.expires)
        if not locator & EXPIRES:
            return entry
        expires = _expiry(tail[-EXPIRY_SIZE:])[0]
        return None if self._parts.timer() >= expires else entry._replace(expires=expires)

    def look(self, key: Any) -> Entry | None:
        """As `entry`, with the lock taken for it."""
        if self._parts.change.is_ours:
            return self.entry(key)  # in the middle of a change, which may not be changed, but read
        return self._parts.change(self.entry, key)

    def time_left(self, key: Any) -> float | None:
        """Seconds to live, infinitely many for ever; None if there is no value."""
        entry = self.look(key)
        if entry is None:
            return None
        return math.inf if entry.expires is None else entry.expires - self._parts.timer()
