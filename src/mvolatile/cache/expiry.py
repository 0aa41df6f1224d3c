"""Expiry: removes expired values, and those whose key can never be asked for again.

Every change looks at a few values, region by region, round and round. Without that, values that nobody asks for again
would make the index grow without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from ..errors import Purged
from .keys import Held
from .store import LargeValue, Region, Store
from .values import EXPIRES, EXPIRY

__all__ = ["Expirer"]


EXPIRY_SIZE, _expiry = EXPIRY.size, EXPIRY.unpack_from


class Expirer:
    """Looks through `store`, once `needed` is set: when a value first has a time to live, or an object as part of its
    key. What expired is kept for `grace` seconds more.
    """

    def __init__(self, store: Store, timer: Callable[[], float], grace: float = 0.0) -> None:
        self.needed = False
        self._grace = grace
        self._store = store
        self._timer = timer
        self._round: Iterator[int] = iter(())  # regions to come, by number
        self._number = self._slot = 0  # of the region that we are in, and where

    def look_at(self, steps: int) -> None:
        """The next `steps` values. At the end of a round no more, so that small caches are not looked at for ever."""
        regions = self._store.regions
        while steps > 0:
            region = regions.get(self._number)
            at = self._slot
            end = at if region is None else min(len(region.keys), at + steps)
            if region is None or at >= end:
                number = next(self._round, None)
                if number is None:
                    self._round = iter(list(regions))
                    return
                self._number, self._slot = number, 0
                continue
            self._slot = end
            steps -= end - at
            now = self._timer() - self._grace
            for slot, locator in self._store.living(region, at, end):
                if self._look(region, slot, locator, now) and region.number not in regions:
                    break  # it left with that value

    def _look(self, region: Region, slot: int, locator: int, now: float) -> bool:
        """Whether it was a value's last."""
        key = region.keys[slot]
        try:
            if locator & EXPIRES:
                data = region.probe(slot)
                over = now >= _expiry(data, len(data) - EXPIRY_SIZE)[0]
            elif isinstance(region, LargeValue):
                over = region.expires is not None and now >= region.expires
            else:
                over = False
        except Purged:
            self._store.lose(key, locator)
            return True
        if over or (type(key) is tuple and _is_orphan(key)):
            return self._store.remove(key, locator, "expired" if over else "orphaned")
        return False


def _is_orphan(key: tuple[Hashable, ...]) -> bool:
    """Once a method's object is gone, no key is equal to its keys."""
    return bool(key) and type(key[0]) is Held and key[0]() is None
