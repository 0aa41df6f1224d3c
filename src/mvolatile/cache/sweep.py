"""The sweeper: removes expired values, and those whose key can never be asked for again.

Every change looks at a few values, shelf by shelf, round and round. Without that, values that nobody asks for again
would make the index grow without bound.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator

from ..errors import Purged
from .log import Log
from .segment import Range
from .values import EXPIRES, EXPIRY

__all__ = ["Held", "Sweeper"]


class Held(weakref.ref):  # type: ignore[type-arg]
    """How a method's key holds its object: its own type, since a user's key may begin with a weak reference, too."""

    __slots__ = ()


class Sweeper:
    """Sweeps `log`, once `needed` is set: when a value first has a time to live, or an object as part of its key."""

    def __init__(self, log: Log, timer: Callable[[], float]) -> None:
        self.needed = False
        self._log = log
        self._timer = timer
        self._places: Iterator[tuple[int, int]] = iter(())

    def sweep(self, steps: int) -> None:
        """Look at the next `steps` values."""
        for _ in range(steps):
            place = next(self._places, None)
            if place is None:
                self._places = self._round()
                return
            self._look(*place)

    def _round(self) -> Iterator[tuple[int, int]]:
        for number in list(self._log.by_number):
            shelf = self._log.by_number.get(number)
            for slot in range(0 if shelf is None else len(shelf.keys)):
                yield number, slot

    def _look(self, number: int, slot: int) -> None:
        shelf = self._log.by_number.get(number)
        if shelf is None or slot >= len(shelf.keys):
            return
        if not self._log.lives(shelf, slot):
            return
        key = shelf.keys[slot]
        locator = self._log.index[key]
        try:
            if isinstance(shelf, Range):
                over = shelf.expires is not None and self._timer() >= shelf.expires
            elif locator & EXPIRES:
                data = shelf.probe(slot)
                over = self._timer() >= EXPIRY.unpack_from(data, len(data) - EXPIRY.size)[0]
            else:
                over = False
        except Purged:
            self._log.lose(key, locator)
            return
        if over or _is_orphan(key):
            self._log.remove(key, locator, "expired" if over else "orphaned")


def _is_orphan(key: Hashable) -> bool:
    """Once a method's object is gone, no key is equal to its keys."""
    return type(key) is tuple and bool(key) and type(key[0]) is Held and key[0]() is None
