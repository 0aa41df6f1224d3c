"""What values took to make: a byte for each, which is a class, eight in each power of two. From a microsecond to an
hour that is right to a twentieth; a measurement is not.

`Costs` keeps the noise out: what is measured for a key moves what was known of it by a part. What disturbs a maker only
ever adds to its time, so less is believed sooner than more.
"""

from __future__ import annotations

import math
from array import array

__all__ = ["SECONDS", "UNKNOWN", "Costs", "checked_cost", "class_of"]

UNKNOWN = 0
STEPS = 8
"""Classes in each power of two."""
LEAST = 1e-6
"""Seconds, of class 1."""
SECONDS = (0.0, *(LEAST * 2 ** (step / STEPS) for step in range(255)))
"""Of each class. `_core/cache/lookup.c` has the same."""
LESS, MORE = 2, 4
"""A measurement that is less moves what is known by a half of the way, one that is more by a quarter."""
FEWEST, PLACES = 1024, 4
"""Keys that may be remembered at first, at most; and entries for each, from half of that on."""


def class_of(seconds: float) -> int:
    """Of a cost that is known."""
    if seconds <= LEAST:
        return 1
    return min(255, 1 + round(STEPS * math.log2(seconds / LEAST))) if seconds < math.inf else 255


def checked_cost(cost: float | None) -> int:
    """The class of what a user says; None for what he does not."""
    if cost is None:
        return UNKNOWN
    if isinstance(cost, str | bytes):  # which float() would read
        raise TypeError(f"cost must be a number of seconds, not {cost!r}")
    try:
        seconds = float(cost)
    except OverflowError:
        seconds = math.inf
    except (TypeError, ValueError):
        raise TypeError(f"cost must be a number of seconds, not {cost!r}") from None
    if not seconds >= 0:
        raise ValueError(f"cost must not be negative, not {cost!r}")
    return class_of(seconds)


class Costs:
    """Of the keys of one cache, whether they are there or not: a byte of each in a table by hash, and a byte to tell
    keys of one place apart. Who comes later has the place; so what is made often is known. There are at most half as
    many places as entries: an entry may take a byte more for it.

    Without a lock: two threads may lose a measurement, no more.
    """

    def __init__(self) -> None:
        self._known = array("H")

    def smoothed(self, key_hash: int, cost: int, entries: int) -> int:
        """What to take for the cost of a key, of which one more is measured."""
        known = self._known
        if len(known) * PLACES < entries or not known:
            known = self._known = array("H", bytes(2 * max(FEWEST, 2 * entries // PLACES)))
        mixed = key_hash * 0x9E3779B97F4A7C15
        at, tag = (mixed >> 24) % len(known), mixed >> 16 & 255
        before = known[at]
        if before >> 8 == tag and (old := before & 255):
            cost = old - (old - cost + 1) // LESS if cost < old else old + (cost - old) // MORE
        known[at] = tag << 8 | cost
        return cost
