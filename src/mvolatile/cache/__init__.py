"""A cache that the kernel evicts from.

The map, from the bottom up::

    layout.py      arrays' bytes                reducers.py    libraries' types
    pickling.py    bulk beside the pickle       memoryviews.py how to make them again
    values.py      values as bytes              frames.py      large buffers in one piece
    codec.py       codecs to hand in
    addresses.py   new memory, while there are addresses
    store/         bytes by key, in regions     eviction/      which values go: policies, one a file
    budget.py      how much has to go           reclaim.py     keeps a store within its budget
    expiry.py      what expired leaves          departures.py  why a key left
    notices.py     telling of lost keys         pressure.py    told of memory pressure
    changes.py     one change at a time         fork.py        after a fork
    calls.py       makings under way            circles.py     nobody waits in a circle
    loops.py       how tasks wait               singleflight.py  one makes, the others wait
    refreshing.py  old values meanwhile         tags.py        deleted together
    parts.py       the parts of one cache       reading.py, storing.py   what works on them
    entering.py    what a store does in a change
    engine.py      the engine                   checks.py      the user's arguments
    lifetime.py    the clock of ttl             statistics.py  CacheInfo
    raised.py      an error for each waiter     stopped.py     errors that stop the program
    rss.py         limits on resident memory    keeping.py     what is dear the kernel takes last
    cost.py        what values take to make     guard.py       what is worth storing
    ages.py        how old what is lost was     rebuild.py     the time that making it again takes
    carry.py       into another process         registry.py    all caches there are
    verbs.py       add, touch, incr, many       views.py       items() and values()
    behind/        what is kept behind memory   tiers.py       between the two
    keybytes.py    keys as bytes                identity.py    which function, in every process
    cache.py       VolatileCache                keys.py        keys of calls
    decorator.py   @volatile_cache              decorated.py   a function with a cache of its own
    memoize.py     its calls, in one call of C  queues.py      by number
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import VolatileCache
    from .codec import Compressed
    from .decorator import volatile_cache
    from .registry import caches
    from .statistics import CacheInfo
    from .values import Codec

__all__ = ["CacheInfo", "Codec", "Compressed", "VolatileCache", "caches", "volatile_cache"]

_WHERE = {
    "CacheInfo": "statistics",
    "Codec": "values",
    "Compressed": "codec",
    "VolatileCache": "cache",
    "caches": "registry",
    "volatile_cache": "decorator",
}


def __getattr__(name: str) -> Any:
    """Loaded by who asks: a shared cache's keeper and its clients use parts of this room, and no `VolatileCache`."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
