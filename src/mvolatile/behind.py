"""Servers and stores as mappings, to stand behind a cache: ``VolatileCache(behind=behind.Redis(client))``.

Whatever maps strings to bytes needs none of these: `diskcache.Cache`, `zict.File`, a dictionary.

A mapping may have two methods more, and is asked by them then: ``store(key, data, seconds)``, for how long the value is
of use (None for ever), and ``clear_prefix(prefix)``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

__all__ = ["LMDB", "Memcached", "Redis"]

RELATIVE = 30 * 24 * 3600
"""Seconds, up to which memcached takes a number for how long; what is more is a date to it."""


class Redis(MutableMapping[str, bytes]):
    """By a `redis.Redis` client (or Valkey's), which answers bytes (``decode_responses=False``, its default). `prefix`
    stands before each key. Values with a time to live go with it.

    >>> import redis  # doctest: +SKIP
    >>> cache = mvolatile.VolatileCache(behind=Redis(redis.Redis()))  # doctest: +SKIP
    """

    def __init__(self, client: Any, prefix: str = "") -> None:
        self._client, self._prefix = client, prefix

    def __getitem__(self, key: str) -> bytes:
        found = self._client.get(self._prefix + key)
        if found is None:
            raise KeyError(key)
        if not isinstance(found, bytes):
            raise TypeError("the client decodes what it gets: it must be made without decode_responses=True")
        return found

    def store(self, key: str, data: bytes, seconds: float | None) -> None:
        """For so long."""
        self._client.set(
            self._prefix + key, data, px=None if seconds is None else max(1, math.ceil(seconds * 1000))
        )

    def __setitem__(self, key: str, data: bytes) -> None:
        self.store(key, data, None)

    def __delitem__(self, key: str) -> None:
        if not self._client.delete(self._prefix + key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return self._keys("")

    def _keys(self, prefix: str) -> Iterator[str]:
        escaped = "".join(f"\\{one}" if one in "*?[]\\^-" else one for one in self._prefix + prefix)
        for key in self._client.scan_iter(match=escaped + "*", count=1000):
            yield key.decode()[len(self._prefix) :]

    def clear_prefix(self, prefix: str) -> None:
        """Delete those keys, a thousand at a time."""
        for key in self._keys(prefix):
            self._client.delete(self._prefix + key)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Memcached(MutableMapping[str, bytes]):
    """By a `pymemcache` client. A server that is the caches' own: memcached lists no keys, so a cache that is cleared
    clears the server. What it refuses, such as more than a MiB, is an error of the cache's second tier.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getitem__(self, key: str) -> bytes:
        found = self._client.get(key)
        if found is None:
            raise KeyError(key)
        return bytes(found)

    def store(self, key: str, data: bytes, seconds: float | None) -> None:
        """For so long."""
        expire = 0 if seconds is None else max(1, math.ceil(seconds))
        if expire > RELATIVE:
            expire += int(time.time())
        if not self._client.set(key, data, expire=expire, noreply=False):
            raise OSError("memcached has not stored a value")

    def __setitem__(self, key: str, data: bytes) -> None:
        self.store(key, data, None)

    def __delitem__(self, key: str) -> None:
        if not self._client.delete(key, noreply=False):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise TypeError("memcached lists no keys")

    def clear_prefix(self, prefix: str) -> None:
        """All of the server."""
        self._client.flush_all(noreply=False)

    def __len__(self) -> int:
        raise TypeError("memcached lists no keys")


class LMDB(MutableMapping[str, bytes]):
    """By an `lmdb.Environment`, which is of the process that opened it: a forked child opens its own, and makes a cache
    of its own. `MapFullError` from a full map is an error of the cache's second tier.
    """

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def __getitem__(self, key: str) -> bytes:
        with self._environment.begin() as transaction:
            found = transaction.get(key.encode())
        if found is None:
            raise KeyError(key)
        return bytes(found)

    def __setitem__(self, key: str, data: bytes) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.put(key.encode(), data)

    def __delitem__(self, key: str) -> None:
        with self._environment.begin(write=True) as transaction:
            if not transaction.delete(key.encode()):
                raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        with self._environment.begin() as transaction:
            keys = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
        return iter(keys)

    def __len__(self) -> int:
        return int(self._environment.stat()["entries"])
