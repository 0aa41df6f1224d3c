"""Expiry: removes expired values, and those whose key can never be asked for again.

Every change looks at a few values, region by region, round and round. Without that, values that nobody asks for again
would make the index grow without bound.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator

from ..errors import Purged
from .store import LargeValue, Store
from .values import EXPIRES, EXPIRY

__all__ = ["Expirer", "Held"]


class Held(weakref.ref):  # type: ignore[type-arg]
    """How a method's key holds its object: its own type, since a user's key may begin with a weak reference, too."""

    __slots__ = ()


class Expirer:
    """Looks through `store`, once `needed` is set: when a value first has a time to live, or an object as part of its
    key. What expired is kept for `grace` seconds more.
    """

    def __init__(self, store: Store, timer: Callable[[], float], grace: float = 0.0) -> None:
        self.needed = False
        self._grace = grace
        self._store = store
        self._timer = timer
        self._places: Iterator[tuple[int, int]] = iter(())

    def look_at(self, steps: int) -> None:
        """The next `steps` values."""
        for _ in range(steps):
            place = next(self._places, None)
            if place is None:
                self._places = self._round()
                return
            self._look(*place)

    def _round(self) -> Iterator[tuple[int, int]]:
        for number in list(self._store.regions):
            region = self._store.regions.get(number)
            for slot in range(0 if region is None else len(region.keys)):
                yield number, slot

    def _look(self, number: int, slot: int) -> None:
        region = self._store.regions.get(number)
        if region is None or slot >= len(region.keys):
            return
        if not self._store.lives(region, slot):
            return
        key = region.keys[slot]
        locator = self._store.index[key]
        try:
            if isinstance(region, LargeValue):
                over = region.expires is not None and self._timer() >= region.expires + self._grace
            elif locator & EXPIRES:
                data = region.probe(slot)
                over = self._timer() >= EXPIRY.unpack_from(data, len(data) - EXPIRY.size)[0] + self._grace
            else:
                over = False
        except Purged:
            self._store.lose(key, locator)
            return
        if over or _is_orphan(key):
            self._store.remove(key, locator, "expired" if over else "orphaned")


def _is_orphan(key: Hashable) -> bool:
    """Once a method's object is gone, no key is equal to its keys."""
    return type(key) is tuple and bool(key) and type(key[0]) is Held and key[0]() is None
