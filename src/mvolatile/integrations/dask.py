"""Dask: what `dask.cache.Cache` takes, and a plugin by which all workers of a host have one shared cache.

::

    with dask.cache.Cache(VolatileCache()):  # the local schedulers: in cachey's place
        array.mean().compute()

    client.register_plugin(SharedCachePlugin())  # distributed
    client.map(work, keys)  # where work() asks shared_cache().get_or_set(key, ...)

Needs what ``pip install mvolatile[dask]`` installs.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Hashable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import suppress
from datetime import timedelta
from typing import Any

from dask._task_spec import DataNode
from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from .. import cache as caches
from ..cache.statistics import CacheInfo
from ..shared import SharedCache

__all__ = ["SharedCachePlugin", "VolatileCache", "shared_cache"]

_NONE: Any = object()


class VolatileCache:
    """For `dask.cache.Cache`, in the place of a `cachey.Cache`: results of tasks, for as long as there is memory.

    Parameters
    ----------
    max_bytes: a bound on the bytes of all results; by default there is none, and the kernel takes what it needs.
    name: what it is called in ``mvolatile status``.

    It has cachey's methods, `put`, `get`, `data`, `retire`, `resize` and `clear`. What a task cost goes with its
    result, and what is dear for its size stays longer. A hit is a copy, which the next task may change. A result that
    does not pickle, one that is larger than the cache may be, and an iterator (whose value is what is left in it) are
    passed over. A result that is gone when a computation begins is made again by it; what is there then is kept for it.

    As with cachey a result is known by its key alone, so keys that a program makes up by hand must be new for
    each new meaning. Threads, fork and spawn: as `mvolatile.VolatileCache`, which is `volatile` here.
    """

    def __init__(self, max_bytes: int | None = None, *, name: str = "dask") -> None:
        self.volatile: caches.VolatileCache[Any, Any] = caches.VolatileCache(max_bytes, name=name, copy=True)
        self.data = Results(self.volatile)

    def put(self, key: Hashable, value: Any, cost: float, nbytes: float | None = None) -> None:
        """Store it. `cost` is cachey's, seconds per byte and 1e9, and `nbytes` what it was divided by; without it
        `cost` is in seconds.
        """
        if isinstance(value, Iterator):
            return
        seconds = cost if nbytes is None else cost * nbytes * 1e9
        with suppress(TypeError, ValueError, MemoryError, RecursionError):  # a task does not fail for it
            self.volatile.set(key, value, cost=max(seconds, 0.0))

    def get(self, key: Hashable, default: Any = None) -> Any:
        """The value, or `default`."""
        return self.volatile.get(key, default)

    def retire(self, key: Hashable) -> None:
        """Forget it, if it is there."""
        self.volatile.delete_many((key,))

    def resize(self, available_bytes: int | None) -> None:
        """Change the bound; what is too much goes now."""
        self.volatile.resize(available_bytes)

    def clear(self) -> None:
        """Forget everything."""
        self.volatile.clear()

    def cache_info(self) -> CacheInfo:
        """Statistics of the cache behind it."""
        return self.volatile.cache_info()

    def __contains__(self, key: Hashable) -> bool:
        return key in self.volatile


class Results(Mapping[Any, Any]):
    """`VolatileCache.data`, as `dask.cache.Cache` reads it when a computation begins::

        overlap = set(graph) & set(cache.data)
        for key in overlap:
            graph[key] = cache.data[key]

    The bad schedule: the kernel takes a result after the first line, and the second raises `KeyError` in the middle
    of the program's ``compute()``. So what iteration gives is equal to a key of the graph only if its result could be
    read, which is then kept for the second line. To read all results at the first would copy the whole cache.

    The second line has another: a graph takes a string for a key, and a tuple for a call. What is kept for it goes as
    a node of the graph, which is taken for nothing but data.
    """

    def __init__(self, volatile: caches.VolatileCache[Any, Any]) -> None:
        self._volatile = volatile
        self._here = _Kept()

    def __iter__(self) -> Iterator[Any]:
        self._here.results.clear()
        for key in self._volatile:
            yield _Listed(key, self)

    def keep(self, key: Any) -> bool:
        """Read it, for the next `__getitem__`; whether it was there."""
        kept = self._here.results
        if key not in kept:
            value = self._volatile.get(key, _NONE)
            if value is _NONE:
                return False
            kept[key] = value
        return True

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, _Listed):
            key = key.key
        value = self._here.results.pop(key, _NONE)
        return self._volatile[key] if value is _NONE else DataNode(key, value)

    def __contains__(self, key: object) -> bool:
        return key in self._volatile

    def __len__(self) -> int:
        return len(self._volatile)

    def keys(self) -> KeysView[Any]:
        """The keys as they are."""
        return self._volatile.keys()

    def items(self) -> ItemsView[Any, Any]:
        """Pairs of key and value; those that are gone by then are left out."""
        return self._volatile.items()

    def values(self) -> ValuesView[Any]:
        """Values; those that are gone by then are left out."""
        return self._volatile.values()


class _Kept(threading.local):
    """Of each thread: several may compute at once."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}


class _Listed:
    """A key that is equal to itself in a graph if its result is there."""

    __slots__ = ("_is_there", "_results", "key")

    def __init__(self, key: Any, results: Results) -> None:
        self.key = key
        self._results = results
        self._is_there = False

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        same: bool = self.key == (other.key if isinstance(other, _Listed) else other)
        if isinstance(other, _Listed):
            return same
        # Once more when the graph is written to, after the result was taken: then it is there still.
        self._is_there = self._is_there or (same and self._results.keep(self.key))
        return same and self._is_there

    def __repr__(self) -> str:
        return repr(self.key)


class SharedCachePlugin(WorkerPlugin):
    """A plugin for distributed's workers: all of a host have one `mvolatile.SharedCache`, each host its own.

    Parameters
    ----------
    name: of the shared cache, for workers and programs that are to share it with others (1 to 64 letters, digits,
        ``.``, ``_``, ``-``). By default it is a new one, which the workers that get this plugin have for themselves.
    max_bytes, ttl: as of `SharedCache`.

    Register it with ``client.register_plugin(SharedCachePlugin())``; tasks get the cache from `shared_cache`. Workers
    need the library: where one has it not, registering raises `ModuleNotFoundError`.

    The values lie in the memory of a keeper, a process of its own, that counts neither in what Dask's memory monitor
    sees of a worker nor in what its nanny does. So it can be full without spilling, pausing or killing one, and a
    worker that dies or is restarted takes nothing along: the next has the plugin, and the values. What private
    caches in workers may take follows from Dask's settings by itself (`mvolatile.set_resident_limit`).

    Threads: tasks of all threads of a worker use the same object. It pickles, by its name and parameters. `teardown`,
    when a worker closes or the plugin is unregistered, lets go of the cache there; tasks that run still find misses.
    """

    def __init__(
        self, name: str | None = None, *, max_bytes: int | None = None, ttl: float | timedelta | None = None
    ) -> None:
        self.cache_name = f"dask-{uuid.uuid4().hex[:16]}" if name is None else name
        self.name = f"mvolatile-{self.cache_name}"
        self._parameters: dict[str, Any] = {"max_bytes": max_bytes, "ttl": ttl}
        self._workers: set[str] = set()
        self.cache: SharedCache[Any, Any] | None = None
        SharedCache(self.cache_name, **self._parameters).close()  # what is wrong with it is told here

    def __reduce__(self) -> tuple[Any, ...]:
        return _plugin, (type(self), self.cache_name, self._parameters)

    def setup(self, worker: Any) -> None:
        """For distributed: a worker has it now. It may be one of several in its process."""
        self._workers.add(worker.id)
        if self.cache is None or self.cache.closed:
            self.cache = SharedCache(self.cache_name, **self._parameters)

    def teardown(self, worker: Any) -> None:
        """For distributed: a worker has it no more."""
        self._workers.discard(worker.id)
        if not self._workers and self.cache is not None:
            self.cache.close()


def _plugin(kind: type[SharedCachePlugin], name: str, parameters: dict[str, Any]) -> SharedCachePlugin:
    return kind(name, **parameters)


def shared_cache(name: str | None = None) -> SharedCache[Any, Any]:
    """In a task: the cache that this worker has from its `SharedCachePlugin`; of the one with this name, if it has
    several.

    `RuntimeError`, which says what to do, outside of a task, without such a plugin, and for several without a name.
    """
    try:
        worker = get_worker()
    except ValueError:
        raise RuntimeError("no Dask worker runs this: shared_cache() is for tasks") from None
    found = [
        plugin
        for plugin in list(worker.plugins.values())
        if isinstance(plugin, SharedCachePlugin) and name in (None, plugin.cache_name)
    ]
    if len(found) != 1 or found[0].cache is None:
        which = "" if name is None else f" of the name {name!r}"
        trouble = (
            "several, and needs a name"
            if len(found) > 1
            else "none: client.register_plugin(SharedCachePlugin())"
        )
        raise RuntimeError(f"which shared cache{which}? The worker {worker.address} has {trouble}")
    return found[0].cache
