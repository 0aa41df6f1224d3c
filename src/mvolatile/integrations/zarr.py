"""A zarr 3 store around another, whose chunks are kept: encoded as they are stored, and decoded as arrays have them.

::

    store = VolatileStore(zarr.storage.LocalStore("data.zarr"))
    array = zarr.open_array(store)  # or xarray.open_zarr(store)

Needs what ``pip install mvolatile[zarr]`` installs.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import AsyncGenerator, Iterable
from itertools import starmap
from time import perf_counter
from typing import Any, Self

import numpy as np
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.config import config
from zarr.storage import LocalStore, WrapperStore

from ..cache.statistics import CacheInfo
from ..shared import SharedCache
from . import backing
from .chunks import Make, VolatilePipeline
from .forms import Forms
from .generations import Generations

__all__ = ["VolatileStore"]

METADATA = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}
"""Never kept: others may change it, and it is small."""

PIPELINE, DEFAULT = "codec_pipeline.path", "zarr.core.codec_pipeline.BatchedCodecPipeline"

_homes: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Caches by the stores that have them: what is unpickled where its cache is takes that, and both see each other's
changes.
"""


class VolatileStore(WrapperStore[Store]):
    """A store whose chunks are kept in memory that the kernel may take.

    Parameters
    ----------
    store: the one that has the data.
    cache: a `mvolatile.VolatileCache` or `mvolatile.SharedCache` of your own; by default a new one.
    shared: the name of a `SharedCache` instead, which all processes of this user on this host have in common.
    max_bytes: a bound on the bytes of all that is kept; by default there is none, and the kernel takes what it needs.
    ttl: how many seconds it is kept; by default as long as there is memory.
    namespace: what tells this store from others in a cache that several share. Needed with a `SharedCache`, unless
        `store` is a `LocalStore`, which has its path: processes that give the same share what is kept.
    decoded: whether decoded chunks are kept as well, of arrays that are opened from this store. For that zarr's
        default codec pipeline is replaced by one that does the same for all other stores; another pipeline, if zarr is
        configured to have one, stays, and then only encoded chunks are kept.

    Chunks, and ranges of bytes of them, are kept; metadata never is, nor that a chunk is missing. What is written or
    deleted goes through, and what was kept of it is not found any more when the call returns: in this process, in
    copies of this store there, and with a `SharedCache` by all who use it with the same namespace. **What others change
    in the data by another way is not seen**: of a chunk that was kept the old value is read. Deleting a directory, as
    overwriting an array does, forgets all that is kept of the store.

    Threads and event loops: any; of those that want one chunk one gets it. Fork: both processes have what was kept,
    and go on independently. Pickled, it takes its cache with it by name, or has an empty one; where the cache itself
    is, that. Closing closes the store, and forgets nothing.
    """

    def __init__(
        self,
        store: Store,
        *,
        cache: backing.Cache | None = None,
        shared: str | None = None,
        max_bytes: int | None = None,
        ttl: float | None = None,
        namespace: str | None = None,
        decoded: bool = True,
    ) -> None:
        super().__init__(store)
        if cache is None:
            cache = backing.new_cache("zarr", shared, max_bytes, ttl, copy=None)
        elif (shared, max_bytes, ttl) != (None, None, None):
            raise TypeError("cache is one already: it goes with neither shared, max_bytes nor ttl")
        home = secrets.token_hex(12)
        if namespace is None:
            namespace = _place(store) if isinstance(cache, SharedCache) else home
        self.keeps_decoded = decoded
        self._generations, self.forms = Generations(cache, namespace), Forms(cache)
        self._home = home
        _homes[home] = cache
        self._decode_here()

    def _decode_here(self) -> None:
        if self.keeps_decoded and config.get(PIPELINE) == DEFAULT:
            config.set({PIPELINE: f"{VolatilePipeline.__module__}.{VolatilePipeline.__qualname__}"})

    def _with_store(self, store: Store) -> Self:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self), _store=store)
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        given = self._generations
        self._generations = Generations(_homes.setdefault(self._home, given.cache), given.namespace)
        self.forms = Forms(self.volatile)
        self._decode_here()

    @property
    def inner(self) -> Store:
        """The one that has the data."""
        return self._store

    @property
    def volatile(self) -> backing.Cache:
        """Where the chunks are."""
        return self._generations.cache

    def cache_info(self) -> CacheInfo:
        """Statistics of the cache behind it. Each read asks it for two small values beside the chunk."""
        return self.volatile.cache_info()

    # ---- reading

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value or a part of it; None if there is none."""
        under = None if _is_metadata(key) or not _is_known(byte_range) else self._generations.under(key)
        if under is None:
            return await self._store.get(key, prototype, byte_range)
        if byte_range is not None and (*under, None) in self.volatile:
            whole = self.volatile.get((*under, None))
            if whole is not None:
                return prototype.buffer.from_bytes(_part(whole, byte_range).data)

        async def make() -> np.ndarray[Any, Any] | None:
            began = perf_counter()
            found = await self._store.get(key, prototype, byte_range)
            if found is None:
                return None
            self.forms.fetched(len(found), perf_counter() - began)
            return found.as_numpy_array()

        kept = await self.volatile.aget_or_set((*under, _told(byte_range)), make, condition=_can_be_kept)
        return None if kept is None else prototype.buffer.from_bytes(kept.data)

    async def kept_decoded(self, place: str, what: tuple[Any, ...], make: Make) -> Any:
        """What `make` made of the chunk at `place`, or makes now: an array, read-only, or None. For the pipeline."""
        under = self._generations.under(place)
        if under is None:
            return await make()
        return await self.volatile.aget_or_set((*under, "decoded", *what), make, condition=self._keeps)

    def _keeps(self, decoded: Any) -> bool:
        return _can_be_kept(decoded) and self.forms.keeps_decoded(decoded.nbytes)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Many at once."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)

    async def getsize(self, key: str) -> int:
        """The bytes of a value, as the store says."""
        return await self._store.getsize(key)

    async def getsize_prefix(self, prefix: str) -> int:
        """The bytes of all values there, as the store says."""
        return await self._store.getsize_prefix(prefix)

    @property
    def supports_consolidated_metadata(self) -> bool:
        """As the store does."""
        return self._store.supports_consolidated_metadata

    # ---- changing

    async def set(self, key: str, value: Buffer) -> None:
        """Store it. It is not kept before it is read: of two who store at once none knows whose value stayed."""
        self._check_writable()  # else it would be a change whose end is not known
        with self._generations.changing(key):
            await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store it if there is none."""
        self._check_writable()
        with self._generations.changing(key):
            await self._store.set_if_not_exists(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        await asyncio.gather(*starmap(self.set, values))

    async def delete(self, key: str) -> None:
        """Delete it."""
        self._check_writable()
        with self._generations.changing(key):
            await self._store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all that is there."""
        self._check_writable()
        with self._generations.changing():
            await self._store.delete_dir(prefix)

    async def clear(self) -> None:
        """Delete everything."""
        self._check_writable()
        with self._generations.changing():
            await self._store.clear()

    def __repr__(self) -> str:
        return f"VolatileStore({self._store!r})"

    def __str__(self) -> str:
        return f"volatile-{self._store}"


def _place(store: Store) -> str:
    if isinstance(store, LocalStore):
        return f"file:{store.root.resolve()}"
    raise ValueError(f"give a namespace: what others would call {store!r} cannot be told")


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in METADATA


def _is_known(part: Any) -> bool:
    return part is None or isinstance(part, RangeByteRequest | OffsetByteRequest | SuffixByteRequest)


def _told(part: ByteRequest | None) -> tuple[Any, ...] | None:
    match part:
        case RangeByteRequest(start, end):
            return "range", start, end
        case OffsetByteRequest(offset):
            return "from", offset
        case SuffixByteRequest(suffix):
            return "last", suffix
    return None


def _part(whole: np.ndarray[Any, Any], part: ByteRequest) -> np.ndarray[Any, Any]:
    match part:
        case RangeByteRequest(start, end):
            return whole[start:end]
        case OffsetByteRequest(offset):
            return whole[offset:]
        case SuffixByteRequest(suffix):
            return whole[max(0, len(whole) - suffix) :]


def _can_be_kept(array: Any) -> bool:
    """Not that there is none, and no array of objects: that is no faster to read back than to decode."""
    return type(array) is np.ndarray and not array.dtype.hasobject
