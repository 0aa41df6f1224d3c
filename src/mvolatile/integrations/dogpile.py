"""Backends for dogpile.cache, by the names ``mvolatile.memory`` (each region its own) and ``mvolatile.shared``.

::

    region = make_region().configure("mvolatile.shared", arguments={"name": "site"}, expiration_time=3600)

Needs what ``pip install mvolatile[dogpile]`` installs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dogpile.cache.api import NO_VALUE, CacheBackend, CacheMutex

from ..shared import runtime_directory
from . import backing
from .filelock import FileLock

__all__ = ["MemoryBackend", "SharedBackend"]

ARGUMENTS = {"name", "max_bytes", "ttl"}


class MemoryBackend(CacheBackend):
    """``mvolatile.memory``: a `mvolatile.VolatileCache` of the region's own.

    ``arguments``: ``name``, shown in ``mvolatile status`` ("dogpile"); ``max_bytes``, a bound on the bytes of all
    values (by default there is none: the kernel takes what it needs); ``ttl``, seconds after which a value leaves
    memory (by default never: a region's ``expiration_time`` marks a value as old, and keeps it). Others are
    ignored, as dogpile's own backends do.

    What a get gives is the caller's own. What was stored may be gone at the next get: dogpile's ``NO_VALUE``. A value
    larger than the cache may be is not stored; what does not pickle raises what `pickle.dumps` would. A region
    with a serializer has its bytes stored as they are. Threads, fork and spawn: as the caches. Threads of one region
    make a value once, by dogpile's own locks.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.volatile = self._opened(**{name: arguments[name] for name in ARGUMENTS & arguments.keys()})

    def _opened(
        self, name: str = "dogpile", max_bytes: int | None = None, ttl: float | None = None
    ) -> backing.Cache:
        return backing.new_cache(name, None, max_bytes, ttl)

    def get(self, key: str) -> Any:
        """The value, or `NO_VALUE`."""
        return self.volatile.get(key, NO_VALUE)

    def get_multi(self, keys: Iterable[str]) -> list[Any]:
        """A value or `NO_VALUE` for each key."""
        return [self.volatile.get(key, NO_VALUE) for key in keys]

    def set(self, key: str, value: Any) -> None:
        """Store it."""
        backing.put(self.volatile, key, value, None)

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Store all of them."""
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: str) -> None:
        """Forget it, if it is there."""
        self.volatile.delete_many((key,))

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget those of them that are there."""
        self.volatile.delete_many(keys)


class Mutex(FileLock, CacheMutex):
    """dogpile's word for a lock that it may be given."""


class SharedBackend(MemoryBackend):
    """``mvolatile.shared``: the `mvolatile.SharedCache` of a name, of all processes of this user on this host.

    ``arguments``: ``name``, which is needed (1 to 64 letters, digits, ``.``, ``_``, ``-``); ``max_bytes``; ``ttl``.
    Else as `MemoryBackend`, but that all processes together make a value once: a region's mutex is a lock of the
    kernel's on a file beside the cache's socket, which ends with the process that has it.
    """

    def _opened(
        self, name: str | None = None, max_bytes: int | None = None, ttl: float | None = None
    ) -> backing.Cache:
        if name is None:
            raise TypeError(
                "mvolatile.shared needs an argument name: processes that give the same share the values"
            )
        self._name = name
        return backing.new_cache(name, name, max_bytes, ttl)

    def get_mutex(self, key: str) -> CacheMutex:
        """A lock of `key` among all processes of the user that use this name."""
        return Mutex(runtime_directory() / f"{self._name}.dogpile", key)
