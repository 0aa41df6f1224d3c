"""A backend for Django's `CACHES`: a cache that gives way when the kernel needs the memory.

::

    CACHES = {
        "default": {
            "BACKEND": "mvolatile.integrations.django.VolatileCache",
            "LOCATION": "site",  # a name: all workers of the host share it. Empty: each process has its own
            "OPTIONS": {"MAX_BYTES": 1 << 30},  # a bound, if there should be one
        }
    }

Needs what ``pip install mvolatile[django]`` installs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

from ..cache.statistics import CacheInfo
from . import backing

__all__ = ["VolatileCache"]

T = TypeVar("T")

OPTIONS = {"MAX_BYTES", "NAME"}
MEANINGLESS = {"MAX_ENTRIES", "CULL_FREQUENCY"}
"""Django's own, for backends that count entries. Settings that have them stay portable."""


class VolatileCache(BaseCache):  # type: ignore[misc] # Django has no types
    """Django's cache interface over `mvolatile.VolatileCache`, or `mvolatile.SharedCache` where `LOCATION` is a name.

    ``LOCATION``: empty for a cache of each process; a name (1 to 64 letters, digits, ``.``, ``_``, ``-``) for one that
    all processes of this user on this host share. ``OPTIONS``: ``MAX_BYTES``, a bound on the bytes of all values (by
    default there is none: the kernel takes what it needs); ``NAME``, what a cache of the process is called in
    ``mvolatile status`` ("django"), and two of different names are two. ``MAX_ENTRIES`` and ``CULL_FREQUENCY`` do
    nothing. ``TIMEOUT``, ``KEY_PREFIX``, ``VERSION`` and ``KEY_FUNCTION`` are Django's. `ImproperlyConfigured` for what
    cannot be.

    Aliases of the same location are the same cache; ``clear()`` clears all of it. A value larger than the cache may be
    is not stored, and an older one of its key is gone: `set_many` answers such keys, `add` False. `get_or_set` and
    `aget_or_set` make a missing value once, for all threads or all processes that ask meanwhile; ``default`` may be a
    coroutine function in the latter. `incr` is one step to all of them and keeps the timeout. Any value may be gone at
    the next call.

    Threads, fork and spawn: as the caches. `close`, which Django calls after each request, does nothing.
    """

    def __init__(self, location: str, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        options: dict[str, Any] = params.get("OPTIONS") or {}
        if unknown := options.keys() - OPTIONS - MEANINGLESS:
            raise ImproperlyConfigured(
                f"OPTIONS of {type(self).__name__} may be {', '.join(sorted(OPTIONS))}, "
                f"not {', '.join(sorted(unknown))}"
            )
        try:
            self.volatile = backing.one_of_process(
                options.get("NAME", "django"), location or None, options.get("MAX_BYTES")
            )
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{type(self).__name__}, LOCATION {location!r}: {error}") from error
        self._shared = bool(location)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float:
        """Seconds to live. Django's None is for ever; what is not more than 0 is over at once."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return math.inf if timeout is None else max(timeout, 0)

    # ---- reading

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The value, or `default`. A value that is None is no miss."""
        return self.volatile.get(self.make_and_validate_key(key, version), default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """The values of those of `keys` that are there."""
        asked = {self.make_and_validate_key(key, version): key for key in keys}
        return {asked[key]: value for key, value in self.volatile.get_many(asked).items()}

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a get would find it now. No value is copied."""
        return self.make_and_validate_key(key, version) in self.volatile

    # ---- writing

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store it. What does not pickle raises what `pickle.dumps` would."""
        key = self.make_and_validate_key(key, version)
        backing.put(self.volatile, key, value, self.get_backend_timeout(timeout))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Store all of them; the keys of those that are too large."""
        ttl = self.get_backend_timeout(timeout)
        return [
            key
            for key, value in data.items()
            if not backing.put(self.volatile, self.make_and_validate_key(key, version), value, ttl)
        ]

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store it if there is none: of all who add at once one gets True."""
        key = self.make_and_validate_key(key, version)
        return backing.add(self.volatile, key, value, self.get_backend_timeout(timeout))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Have it live so long from now on; False if it is not there."""
        return self.volatile.touch(
            self.make_and_validate_key(key, version), self.get_backend_timeout(timeout)
        )

    def incr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """Add to a number, in one step, and answer the sum; `ValueError` if it is not there."""
        try:
            return self.volatile.incr(self.make_and_validate_key(key, version), delta)
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Whether this call deleted it."""
        return self.volatile.delete_many((self.make_and_validate_key(key, version),)) == 1

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete those of them that are there."""
        self.volatile.delete_many([self.make_and_validate_key(key, version) for key in keys])

    def clear(self) -> None:
        """Forget all that is at this location, whatever its prefix and version."""
        self.volatile.clear()

    # ---- making once

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """The value, or `default`, which may be callable and is stored. While one makes it, all others wait."""
        make = default if callable(default) else lambda: default
        key = self.make_and_validate_key(key, version)
        return self.volatile.get_or_set(key, make, ttl=self.get_backend_timeout(timeout))

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """As `get_or_set`; `default` may be a coroutine function, too. Who waits does not block the loop."""
        make = default if callable(default) else lambda: default
        key = self.make_and_validate_key(key, version)
        return await self.volatile.aget_or_set(key, make, ttl=self.get_backend_timeout(timeout))

    # ---- coroutines: what asks nobody is done at once. Stores of a shared cache ask its keeper, in a thread.

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See `get`."""
        return self.get(key, default, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See `get_many`."""
        return self.get_many(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See `has_key`."""
        return self.has_key(key, version)

    async def aset(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """See `set`."""
        await self._asked(self.set, key, value, timeout, version)

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """See `set_many`."""
        return await self._asked(self.set_many, data, timeout, version)

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """See `add`."""
        return await self._asked(self.add, key, value, timeout, version)

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """See `touch`."""
        return await self._asked(self.touch, key, timeout, version)

    async def aincr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """See `incr`."""
        return await self._asked(self.incr, key, delta, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See `delete`."""
        return await self._asked(self.delete, key, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See `delete_many`."""
        await self._asked(self.delete_many, keys, version)

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See `incr_version`."""
        moved: int = await self._asked(self.incr_version, key, delta, version)
        return moved

    async def aclear(self) -> None:
        """See `clear`."""
        await self._asked(self.clear)

    async def _asked(self, function: Callable[..., T], *arguments: Any) -> T:
        if not self._shared:
            return function(*arguments)
        answer: T = await sync_to_async(function, thread_sensitive=False)(*arguments)
        return answer

    # ---- the whole

    def cache_info(self) -> CacheInfo:
        """Statistics of the cache behind it."""
        return self.volatile.cache_info()
