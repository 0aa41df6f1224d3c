"""A `cachelib.BaseCache`: what Flask-Caching, Flask-Session and others of that family take.

::

    Cache(app, config={
        "CACHE_TYPE": "mvolatile.integrations.cachelib.VolatileCache",
        "CACHE_OPTIONS": {"shared": "site"},  # all workers of the host share it. Without: each process has its own
    })

Needs what ``pip install mvolatile[cachelib]`` installs.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from cachelib.base import BaseCache
from cachelib.serializers import BaseSerializer

from ..cache.statistics import CacheInfo
from . import backing

__all__ = ["VolatileCache"]


class VolatileCache(BaseCache):
    """cachelib's interface over `mvolatile.VolatileCache`, or with `shared` over the `mvolatile.SharedCache` of that
    name, which all processes of this user on this host have in common.

    Parameters
    ----------
    default_timeout: seconds (or, where cachelib knows it, a `timedelta`) that a value lives; 0 for ever. cachelib's
        default is 300.
    shared: the name of a shared cache; None for one of this object's own.
    max_bytes: a bound on the bytes of all values; by default there is none, and the kernel takes what it needs.
    name: what a cache of its own is called in ``mvolatile status``.
    serializer: an object with ``dumps`` and ``loads`` (`cachelib.serializers`), instead of the cache's own formats.
        It may be assigned later, too; `inc` and `dec` are then no single steps.

    More keywords go to `cachelib.BaseCache`. `get` answers None for a miss, as all of cachelib. `set` and `add` answer
    False for a value larger than the cache may be; what does not pickle raises what `pickle.dumps` would. Values, lists
    of sessions too, may be gone at the next call. Threads, fork and spawn: as the caches.
    """

    serializer: BaseSerializer | None = None

    def __init__(
        self,
        default_timeout: int | timedelta = 300,
        *,
        shared: str | None = None,
        max_bytes: int | None = None,
        name: str = "cachelib",
        serializer: BaseSerializer | None = None,
        **base: Any,
    ) -> None:
        super().__init__(default_timeout, **base)
        if serializer is not None:
            self.serializer = serializer
        self.volatile = backing.new_cache(name, shared, max_bytes)

    def _lives(self, timeout: int | timedelta | None) -> float:
        seconds = self._normalize_timeout(timeout)
        return math.inf if seconds == 0 else max(seconds, 0)

    def _dumped(self, value: Any) -> Any:
        return value if self.serializer is None else self.serializer.dumps(value)

    def get(self, key: str) -> Any:
        """The value, or None."""
        value = self.volatile.get(key)
        return value if value is None or self.serializer is None else self.serializer.loads(value)

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool | None:
        """Store it; whether it was."""
        return backing.put(self.volatile, key, self._dumped(value), self._lives(timeout))

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store it if there is none: of all who add at once one gets True."""
        return backing.add(self.volatile, key, self._dumped(value), self._lives(timeout))

    def delete(self, key: str) -> bool:
        """Whether this call deleted it."""
        return self.volatile.delete_many((key,)) == 1

    def has(self, key: str) -> bool:
        """Whether a get would find it now. No value is copied."""
        return key in self.volatile

    def clear(self) -> bool:
        """Forget everything."""
        self.volatile.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number, from 0 if there is none, in one step; it lives as long as it would have."""
        if self.serializer is not None:
            return super().inc(key, delta)
        ttl = self._lives(None)
        while True:
            try:
                total: int = self.volatile.incr(key, delta)
            except KeyError:
                if not backing.add(self.volatile, key, delta, ttl):
                    continue
                total = delta
            return total

    def dec(self, key: str, delta: int = 1) -> int | None:
        """As `inc`, less `delta`."""
        return self.inc(key, -delta)

    def cache_info(self) -> CacheInfo:
        """Statistics of the cache behind it."""
        return self.volatile.cache_info()
