"""A cache that the kernel evicts from.

The words: a *shelf* is a piece of volatile memory, either a *segment*, which many small values share, or a large
value's own *range*; the *log* is the index and all shelves; a *locator* is where the index says a value is; the
*hand* decides what goes; a *flight* is a missing value being made, once for all who want it.

The map, from the bottom up::

    memoryviews.py how to make them again
    values.py      values as bytes              codec.py       codecs to hand in
    segment.py     shelves                      log.py         index and shelves, and every change to them
    mend.py        order after an interrupt
    hand.py        what goes, and living within what the kernel leaves
    duel.py        SIEVE or CLOCK               addresses.py   new memory, while there are addresses
    sweep.py       what expired leaves          pressure.py    told of memory pressure
    notices.py     telling of lost keys         views.py       items() and values()
    departures.py  why a key left               registry.py    all caches there are
    flights.py     single-flight                circles.py     nobody waits in a circle
    loops.py       how tasks wait               fork.py        after a fork
    checks.py      the user's arguments         statistics.py  CacheInfo
    clock.py       the clock of ttl             carry.py       into another process, or a copy
    engine.py      find, change                 storing.py     store
    verbs.py       add, touch, incr, many       cache.py       VolatileCache
    keys.py        keys of calls                decorator.py   @volatile_cache
"""

from __future__ import annotations

from .cache import VolatileCache
from .codec import Compressed
from .decorator import volatile_cache
from .registry import caches
from .statistics import CacheInfo
from .values import Codec

__all__ = ["CacheInfo", "Codec", "Compressed", "VolatileCache", "caches", "volatile_cache"]
