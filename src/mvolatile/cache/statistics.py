"""What a cache tells about itself."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CacheInfo"]


class CacheInfo(NamedTuple):
    """A snapshot: the four fields of `functools.lru_cache`, then what memory does.

    `maxsize`: the bound on entries, or None; `currsize`: entries not known to be lost; `purged`: entries found
    to have been taken by the kernel; `bytes`: what the values take, dead ones not yet given up included;
    `resident_bytes`: how much of the cache's memory is in RAM, or None where this process may not read its own
    ``/proc/self/pagemap`` (no ``/proc``, or a daemon that has changed its user); `pinned_bytes`: memory the kernel
    cannot take now, because arrays over it live or it is still being filled; `segments`: pieces of memory;
    `undecodable`: entries whose bytes were there, but could not be made the value again.
    """

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
    purged: int
    bytes: int
    resident_bytes: int | None
    pinned_bytes: int
    segments: int
    undecodable: int
