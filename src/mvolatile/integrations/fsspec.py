"""fsspec's ``cache_type="volatile"``: blocks of all open files in one cache, which the kernel bounds.

::

    import mvolatile.integrations.fsspec  # registers it; fsspec has no entry points for caches

    with fsspec.open("s3://bucket/large.nc", cache_type="volatile") as file: ...

Needs what ``pip install mvolatile[fsspec]`` installs.
"""

from __future__ import annotations

import io
import math
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias, cast

from fsspec.caching import BaseCache, register_cache

from ..cache import VolatileCache as Private
from . import backing
from .fileversion import Version, version_of

__all__ = ["VolatileCache"]

Place: TypeAlias = tuple[backing.Cache, tuple[Any, ...], bool]

RUN = 32 << 20
"""Bytes that one request asks for, unless a block is larger."""


class Name(str):
    """The name, which imports this module where it is unpickled: so the type is known there."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Callable[[], str], tuple[()]]:
        return _name, ()


def _name() -> str:
    return VolatileCache.name


class VolatileCache(BaseCache):  # type: ignore[misc] # fsspec has no types
    """The blocks of a file that is open for reading, in a cache that all files have in common.

    fsspec gives the first three parameters; the others are what ``cache_options={...}`` may have.

    Parameters
    ----------
    blocksize, fetcher, size: of the file. Requests are of whole blocks; neighbours that are missing are asked
        for in one request, of at most 32 MiB.
    cache: a `mvolatile.VolatileCache` or `mvolatile.SharedCache` of your own, instead of the one of the process.
    shared: the name of a `SharedCache`, which all processes of this user on this host have in common.
    max_bytes: a bound on the bytes of all blocks there; by default there is none, and the kernel takes what it needs.
    version: what tells this content of the file from another. By default the store is asked, once for each opened
        file, at its first read, and its ETag, version or checksum taken; where it has none, nothing is kept after the
        file is closed. A string or a number says that whoever gives it knows; a function gets fsspec's `info` of the
        file, and may answer `None` for "no telling"; False: ask nothing, and keep nothing after the file is closed.

    Blocks of a file whose version is known serve whoever opens it again, until the kernel takes them. All others belong
    to one opened file, lie in the cache of the process even where `shared` or `cache` name a shared one, and leave
    when it is closed. A file that is overwritten while it is open is read as fsspec's other caches read it: blocks that
    were read before are the old ones.

    A block that is shorter than it should be (the file was cut) is returned, and not kept. Threads: any, also of
    several files at once; of those that want one block one fetches it. Fork: both go on. A pickled open file opens
    itself again, without its options: that is fsspec's way; an `OpenFile` keeps them.
    """

    name: ClassVar[str] = Name("volatile")

    def __init__(
        self,
        blocksize: int,
        fetcher: Callable[[int, int], bytes],
        size: int,
        *,
        cache: backing.Cache | None = None,
        shared: str | None = None,
        max_bytes: int | None = None,
        version: Version = None,
    ) -> None:
        if blocksize < 1:
            raise ValueError(f"blocksize must be a positive number of bytes, not {blocksize!r}")
        if cache is not None and (shared is not None or max_bytes is not None):
            raise TypeError("cache is one already: it goes with neither shared nor max_bytes")
        super().__init__(blocksize, fetcher, size)
        self.nblocks = math.ceil(size / blocksize)
        self._given = (cache, shared, max_bytes)
        self._version = version
        self._fetched: set[int] = set()  # of the blocks that leave when the file is closed
        self._closed = False

    @property
    def volatile(self) -> backing.Cache:
        """Where the blocks are."""
        return self._place[0]

    @property
    def _place(self) -> Place:
        """The cache, what keys begin with, and whether they serve other openings of the file. Found at the first read:
        what the store says of the file then is newer than its size, and so than all that may be kept under it.
        """
        found: Place | None = self.__dict__.get("_found")
        if found is None:
            # Of threads that find it at once all take one answer.
            found = cast(Place, self.__dict__.setdefault("_found", self._find_place()))
        return found

    def _find_place(self) -> Place:
        cache, shared, max_bytes = self._given
        known = version_of(self.fetcher, self.size, self._version)
        if known is not None:
            if cache is None:
                cache = backing.one_of_process("fsspec", shared, max_bytes, copy=False)
            return cache, (*known, self.blocksize), True
        if not isinstance(cache, Private):
            cache = backing.one_of_process("fsspec", None, None if shared else max_bytes, copy=False)
        return cache, (secrets.token_hex(16),), False

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start = 0 if start is None else start
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        out = io.BytesIO()  # gives its bytes away without a copy, and one block at a time is held
        at = start
        while at < stop:
            data, begin = self._block_at(at, stop)
            piece = memoryview(data)[at - begin : stop - begin]
            if not piece:
                break  # the file was cut: what follows must not move up
            at += out.write(piece)
        return out.getvalue()

    def _block_at(self, at: int, stop: int) -> tuple[Any, int]:
        """The block with that byte, or what else was fetched with it up to `stop`, and where it begins."""
        cache, prefix, _ = self._place
        number = at // self.blocksize
        block = cache.get((*prefix, number))
        if block is not None:
            self.hit_count += 1
            return block, number * self.blocksize
        end, most = number + 1, max(1, RUN // self.blocksize)
        while end * self.blocksize < stop and end - number < most and (*prefix, end) not in cache:
            end += 1
        if end == number + 1:
            return self._one(number), number * self.blocksize
        return self._several(number, end), number * self.blocksize

    def _one(self, number: int) -> Any:
        """A block that is missing: one thread fetches it."""
        cache, prefix, _ = self._place
        start, stop = self._extent(number, number + 1)

        def whole(block: memoryview) -> bool:
            return len(block) == stop - start

        def fetch() -> memoryview:
            return memoryview(self._ask(start, stop))

        block = cache.get_or_set((*prefix, number), fetch, condition=whole)
        self._noted(number)
        return block

    def _several(self, number: int, end: int) -> bytes:
        """Blocks that are missing, in one request."""
        cache, prefix, _ = self._place
        start, stop = self._extent(number, end)
        data = self._ask(start, stop)
        for each in range(number, end):
            first, last = self._extent(each, each + 1)
            if last - start > len(data):
                break
            with suppress(ValueError):  # the cache was closed meanwhile
                backing.put(cache, (*prefix, each), memoryview(data)[first - start : last - start], None)
            self._noted(each)
        return data

    def _ask(self, start: int, stop: int) -> bytes:
        self.miss_count += 1
        self.total_requested_bytes += stop - start
        return cast(bytes, self.fetcher(start, stop))

    def _extent(self, number: int, end: int) -> tuple[int, int]:
        return number * self.blocksize, min(end * self.blocksize, self.size)

    def _noted(self, number: int) -> None:
        cache, prefix, serves = self._place
        if not serves:
            self._fetched.add(number)
            if self._closed:  # by another thread, which did not know of this one
                cache.delete_many([(*prefix, number)])

    def close(self) -> None:
        """Have the blocks leave that nobody else can use. fsspec calls it when the file is closed."""
        self._closed = True
        cache, prefix, serves = self.__dict__.get("_found") or (None, (), True)
        if cache is not None and not serves:
            cache.delete_many([(*prefix, number) for number in tuple(self._fetched)])

    def __del__(self) -> None:
        if hasattr(self, "_closed"):  # fsspec before 2026.7 forgets a closed file's cache without a word
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        # A copy finds its own place, and is closed for itself.
        found = {key: value for key, value in self.__dict__.items() if key != "_found"}
        return {**found, "_fetched": set(), "_closed": False}


register_cache(VolatileCache, clobber=True)
