"""Redis beside the application, read from memory as long as the server says that nothing changed.

`VolatileCache` is a cache for redis-py's client-side caching, ``Redis(protocol=3, cache=VolatileCache())``: whatever
the client reads is kept. `NearCache` is the fast way for plain keys: a hit does not enter redis-py at all.

Needs what ``pip install mvolatile[redis]`` installs.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from redis.cache import (
    CacheConfig,
    CacheConfigurationInterface,
    CacheEntry,
    CacheEntryStatus,
    CacheInterface,
    CacheKey,
    EvictionPolicyInterface,
    EvictionPolicyType,
)

from ..cache import VolatileCache as ProcessCache
from ..cache.statistics import CacheInfo
from ..errors import TooLargeError
from .near import NearCache

__all__ = ["NearCache", "VolatileCache"]

_MISSING: Any = object()


class VolatileCache(CacheInterface):
    """redis-py's cache interface over `mvolatile.VolatileCache`: ``Redis(protocol=3, cache=VolatileCache())``, or
    ``cache_config=CacheConfig(cache_class=VolatileCache)``. redis-py wants a server of 7.4 or later for it.

    Parameters
    ----------
    cache_config: which commands are cached, and, if given, how many answers at most (`CacheConfig.get_max_size`).
    max_bytes: a bound on the bytes of all answers; by default there is none, and the kernel takes what it needs.
    name: shown in ``mvolatile status``.

    An answer is kept with the connection that it came by, to which the server says when it has changed; when that is
    gone, so is the answer. An answer that was on its way while its key changed is not kept. A forked
    child has an empty one.

    Threads: this cache may be used by any, but one redis-py client with a cache, whichever it is, by one thread alone:
    redis-py 8.1 reads from a connection that another thread uses, may take its answer, and that thread then waits for
    ever. `NearCache` is for threads.
    """

    # The bad schedule, of redis-py's own cache: thread A has its answer, and found its placeholder still there; thread
    # B reads from A's connection that the key has changed, and deletes the placeholder; A stores the answer, which no
    # message will ever take away. So what was a placeholder is stored only while it still is one, in one step.
    # And a placeholder is seen by the thread alone that set it: another, which takes it for an answer, would read from
    # its connection to see whether that is still good, and could take the answer itself.

    def __init__(
        self,
        cache_config: CacheConfigurationInterface | None = None,
        *,
        max_bytes: int | None = None,
        name: str = "redis",
    ) -> None:
        maxsize = None if cache_config is None else cache_config.get_max_size()
        self._config = cache_config or CacheConfig()
        self._policy = _KernelPolicy(self)
        # Not inherited: a child that read the parent's connections would take its messages from it.
        self.volatile: ProcessCache[CacheKey, tuple[int, Any]] = ProcessCache(
            max_bytes, maxsize=maxsize, name=name, inherit=False
        )
        self._lock = threading.RLock()
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._placeholders: dict[CacheKey, _Placeholder] = {}
        self._by_redis_key: dict[bytes, set[CacheKey]] = {}
        self._connections: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._numbers: Iterator[int] = count(1)

    def _catch_up(self) -> None:
        if self._process != os.getpid():
            self._lock = threading.RLock()  # another thread may have had it
            self._begin()

    # ---- what redis-py asks

    def get(self, key: CacheKey) -> CacheEntry | None:
        """The entry of an answer, or of one that this thread waits for."""
        self._catch_up()
        placeholder = self._placeholders.get(key)
        if placeholder is not None:
            return placeholder if placeholder.thread == threading.get_ident() else None
        number, value = self.volatile.get(key, (0, _MISSING))
        if value is _MISSING:
            return None
        connection = self._connections.get(number)
        if number and connection is None:
            self.delete_by_cache_keys([key])
            return None
        return CacheEntry(key, value, CacheEntryStatus.VALID, connection)

    def set(self, entry: CacheEntry) -> bool:
        """Keep it; whether it was."""
        self._catch_up()
        key = entry.cache_key
        if not self.is_cachable(key):
            return False
        with self._lock:
            if entry.status is CacheEntryStatus.IN_PROGRESS:
                self._forget(key)
                self._placeholders[key] = _Placeholder(entry)
                self._enter(key)
                return True
            if isinstance(entry, _Placeholder) and self._placeholders.get(key) is not entry:
                return False
            self._forget(key)
            try:
                self.volatile[key] = (self._number(entry.connection_ref), entry.cache_value)
            except (TooLargeError, TypeError):
                return False
            self._enter(key)
            return True

    def delete_by_cache_keys(self, cache_keys: list[CacheKey]) -> list[bool]:
        """For each of them, whether it was there."""
        self._catch_up()
        with self._lock:
            return [self._forget(key) for key in cache_keys]

    def delete_by_redis_keys(self, redis_keys: list[bytes] | list[str]) -> list[bool]:
        """Forget all answers about these keys; True for each answer."""
        self._catch_up()
        with self._lock:
            about = [key for one in redis_keys for key in self._by_redis_key.get(_encoded(one), ())]
            return [True for key in dict.fromkeys(about) if self._forget(key)]

    def flush(self) -> int:
        """Forget everything; how much it was."""
        self._catch_up()
        with self._lock:
            size = self.size
            self.volatile.clear()
            self._placeholders.clear()
            self._by_redis_key.clear()
            return size

    def is_cachable(self, key: CacheKey) -> bool:
        """Whether answers to its command may be kept."""
        return self._config.is_allowed_to_cache(key.command)

    @property
    def collection(self) -> OrderedDict[CacheKey, CacheEntry]:
        """A copy of all entries, read now."""
        found = ((key, self.get(key)) for key in [*self.volatile, *self._placeholders])
        return OrderedDict((key, entry) for key, entry in found if entry is not None)

    @property
    def size(self) -> int:
        """Entries, those on their way too."""
        return len(self.volatile) + len(self._placeholders)

    @property
    def config(self) -> CacheConfigurationInterface:
        """As given."""
        return self._config

    @property
    def eviction_policy(self) -> EvictionPolicyInterface:
        """What redis-py asks to evict where its configuration's number of entries is exceeded."""
        return self._policy

    # ---- the whole

    def cache_info(self) -> CacheInfo:
        """Statistics."""
        return self.volatile.cache_info()

    def close(self) -> None:
        """Give the memory back."""
        self.flush()
        self.volatile.close()

    # ---- under the lock

    def _enter(self, key: CacheKey) -> None:
        for one in key.redis_keys:
            self._by_redis_key.setdefault(_encoded(one), set()).add(key)
        # What the kernel took is here still. In the long run a sweep is paid for by as many stores.
        if len(self._by_redis_key) > 2 * self.size + 1000:
            for one, keys in list(self._by_redis_key.items()):
                keys -= {key for key in keys if key not in self._placeholders and key not in self.volatile}
                if not keys:
                    del self._by_redis_key[one]

    def _forget(self, key: CacheKey) -> bool:
        there = self._placeholders.pop(key, None) is not None
        there |= self.volatile.delete_many((key,)) == 1
        for one in map(_encoded, key.redis_keys):
            keys = self._by_redis_key.get(one, set())
            keys.discard(key)
            if not keys:
                self._by_redis_key.pop(one, None)
        return there

    def _number(self, connection: Any) -> int:
        if connection is None:
            return 0
        for number, one in self._connections.items():
            if one is connection:
                return number
        number = next(self._numbers)
        self._connections[number] = connection
        return number


class _Placeholder(CacheEntry):
    """Of an answer that is on its way to `thread`."""

    def __init__(self, entry: CacheEntry) -> None:
        super().__init__(entry.cache_key, entry.cache_value, entry.status, entry.connection_ref)
        self.thread = threading.get_ident()


class _KernelPolicy(EvictionPolicyInterface):
    """redis-py's word for who evicts. Here that is the cache, and the kernel."""

    def __init__(self, cache: CacheInterface) -> None:
        self._cache = cache

    @property
    def cache(self) -> Any:
        """Whose it is."""
        return self._cache

    @cache.setter
    def cache(self, value: CacheInterface) -> None:
        self._cache = value

    @property
    def type(self) -> EvictionPolicyType:
        """By how often and how lately an answer was read."""
        return EvictionPolicyType.frequency_based

    def evict_next(self) -> CacheKey:
        """Forget some entry; `KeyError` if there is none."""
        return self.evict_many(1)[0]

    def evict_many(self, count: int) -> list[CacheKey]:
        """Forget so many."""
        keys = list(self._cache.collection)[:count]
        if len(keys) < count:
            raise ValueError("Evictions count is above cache size")
        self._cache.delete_by_cache_keys(keys)
        return keys

    def touch(self, cache_key: CacheKey) -> None:
        """The cache has seen it."""


def _encoded(key: bytes | str | int | float) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
