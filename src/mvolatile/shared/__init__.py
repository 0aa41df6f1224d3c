"""One cache for all processes of a user on a host.

The words: a *keeper* is the process that owns the values; a *slot table* says where each is; a *record* is a value
with its key and a stamp; a *lease* is the right to make a missing value; a *line* is a connection while a request
lasts.

The map, from the bottom up::

    keys.py      keys as bytes                      values.py     the seam to the private cache
    wire.py      messages                           place.py      where clients and keepers meet
    storage.py   what the keeper keeps              leases.py     who makes what
    answers.py   to requests                        clients.py    who is connected
    keeper.py    one request after the other        start.py      a keeper's beginning and end
    connection.py a client's connections            lease.py      making once, as a client
    client.py    SharedCache
"""

from __future__ import annotations

from .client import SharedCache
from .place import runtime_directory

__all__ = ["SharedCache", "runtime_directory"]
