"""Ways of keeping decoded tiles: all of them, as many as somebody guessed, as many as the kernel leaves."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvolatile.cache import VolatileCache
from mvolatile.demo.imagery import TILE_BYTES, use
from mvolatile.shared import SharedCache

__all__ = ["CONTENDERS", "SHARED", "WORKERS", "Contender", "Keeper", "Source", "contenders", "keeper"]

Decode = Callable[[int], bytes]


class Source(StrEnum):
    """Where a served tile came from."""

    HIT = "hit"
    BUILT = "built"
    """It was not kept: never asked for yet, or evicted."""
    REBUILT = "rebuilt"
    """It was kept, and the kernel had taken it."""


class Keeper(Protocol):
    """Keeps decoded tiles. `serve` gives the checksum of what was served, and where it came from."""

    def serve(self, key: int, decode: Decode) -> tuple[int, Source]:
        """Serve tile `key`, decoding it if it is not whole in memory."""
        ...

    def shed(self, nbytes: int) -> int:
        """Give back about `nbytes`; returns what was given. Called only where no cgroup limits the run."""
        ...


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the demo. `cap` is the share of the limit that somebody guessed, None if nobody had to."""

    name: str
    title: str
    cap: float | None = None

    def cap_bytes(self, limit: int) -> int | None:
        """The guess in bytes."""
        return None if self.cap is None else int(limit * self.cap)

    def label(self, limit: int) -> str:
        """What people read, with the guess in it."""
        cap = self.cap_bytes(limit)
        return self.title if cap is None else f"{self.title} {cap >> 20} MiB"


CONTENDERS = (
    Contender("dict", "dict, unbounded"),
    Contender("lru-large", "LRU of", 2 / 3),
    Contender("lru-small", "LRU of", 1 / 4),
    Contender("volatile", "VolatileCache"),
)
"""In the order of the run: a bound left out, guessed too large, guessed too small, and left to the kernel."""

SHARED = "shared"
WORKERS = (Contender("private", "VolatileCache each"), Contender(SHARED, "one SharedCache"))
"""Of several workers."""


def contenders(workers: int) -> tuple[Contender, ...]:
    """Who runs, with so many workers each."""
    return CONTENDERS if workers == 1 else WORKERS


class _Guessed:
    """Tiles in a mapping that somebody else bounds, or nobody: cachetools.LRUCache, or a dict."""

    def __init__(self, tiles: MutableMapping[int, bytes]) -> None:
        self._tiles = tiles

    def serve(self, key: int, decode: Decode) -> tuple[int, Source]:
        tile = self._tiles.get(key)
        if tile is not None:
            return use(tile), Source.HIT
        tile = self._tiles[key] = decode(key)
        return use(tile), Source.BUILT

    def shed(self, nbytes: int) -> int:
        return 0


class _Volatile:
    """A `VolatileCache` with nothing set; what the kernel took of it is decoded anew."""

    def __init__(self) -> None:
        self._tiles: VolatileCache[int, NDArray[np.uint8]] = VolatileCache(name="tiles")
        self._kept: set[int] = set()

    def serve(self, key: int, decode: Decode) -> tuple[int, Source]:
        kept = self._tiles.get(key)
        if kept is not None:
            return use(
                kept
            ), Source.HIT  # straight from the volatile memory, which is pinned as long as the array lives
        source = Source.REBUILT if key in self._kept else Source.BUILT
        self._kept.add(key)
        tile = decode(key)
        self._tiles[key] = np.frombuffer(tile, np.uint8)
        return use(tile), source

    def shed(self, nbytes: int) -> int:
        return self._tiles.purge(nbytes)


class _Shared:
    """A `SharedCache`: whichever worker decodes a tile, all have it."""

    def __init__(self, name: str) -> None:
        self._tiles: SharedCache[int, NDArray[np.uint8]] = SharedCache(name)
        self._seen: set[int] = set()

    def serve(self, key: int, decode: Decode) -> tuple[int, Source]:
        source = Source.HIT

        def make() -> NDArray[np.uint8]:
            nonlocal source
            source = Source.REBUILT if key in self._seen else Source.BUILT
            return np.frombuffer(decode(key), np.uint8)

        tile = self._tiles.get_or_set(key, make)
        self._seen.add(key)
        return use(tile), source

    def shed(self, nbytes: int) -> int:
        return self._tiles.purge(nbytes)


def keeper(name: str, cap: int | None = None, shared: str = "tiles") -> Keeper:
    """The keeper of contender `name`; `cap` in bytes, for those that need one; `shared` is what workers call it."""
    if name == "dict":
        return _Guessed({})
    if name in ("volatile", "private"):
        return _Volatile()
    if name == SHARED:
        return _Shared(shared)
    if name.startswith("lru") and cap is not None and cap >= TILE_BYTES:
        from cachetools import LRUCache

        return _Guessed(LRUCache(cap, getsizeof=len))
    raise ValueError(f"no contender {name!r} with a cap of {cap} bytes")
