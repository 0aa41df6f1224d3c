"""One cache for all processes of a user on a host.

The words: a *keeper* is the process that owns the values; a *slot table* says where each is; a *record* is a value
with its key and a stamp; a *lease* is the right to make a missing value; a *line* is a connection while a request
lasts; a *duty* is what is to be done in the second tier, and who does it has its *turn*.

The map, from the bottom up::

    keys.py      keys as bytes                      values.py     the seam to the private cache; eviction.py: a keeper's
    wire.py      messages                           place.py      where clients and keepers meet

    index.py     the slot table                     segment.py    a piece of memory; segments.py: all of them
    visits.py    how often each was read            evictable.py  the storage, as eviction sees it
    reclaim.py   what goes, and when                headroom.py   how near the limit is
    storage.py   what the keeper keeps
    leases.py    who makes what                     peer.py       a client, as the keeper sees it; clients.py: all
    answers.py   to requests                        keeper.py     one request after the other
    start.py     a keeper's beginning and end       survey.py     all keepers, and what they tell

    ledger.py    what is due behind, on a file      duties.py     whose turn it is; turns.py: answers to that
    queue.py     what a client has to bring there   second.py     the second tier, as a client has it

    connection.py a client's connections            lease.py      making once, as a client
    reading.py   hits                               access.py     stores
    verbs.py     add, touch, incr                   client.py     SharedCache
    decorator.py volatile_cache(shared=...)         here.py       all clients of this process
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import SharedCache
    from .here import shared_caches
    from .place import runtime_directory

__all__ = ["SharedCache", "runtime_directory", "shared_caches"]


def __getattr__(name: str) -> Any:
    """Loaded by who asks: a keeper needs nothing of what clients do, and its memory is what values have not."""
    if name == "SharedCache":
        from .client import SharedCache

        return SharedCache
    if name == "shared_caches":
        from .here import shared_caches

        return shared_caches
    if name == "runtime_directory":
        from .place import runtime_directory

        return runtime_directory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
