"""Decoded chunks of a zarr array, kept as long as memory lasts.

zarr decodes a chunk every time it is touched. Here blocks of an array, cut along its chunks, are decoded once and
kept in a `VolatileCache`: a second pass over the data costs microseconds a block, and no cap has to be guessed.

Arrays may share one cache: a chunk is known by its array's place, and `path` alone is no place, since it is empty for
every array at the root of a store.

    python examples/zarr_chunk_cache.py        (needs: pip install zarr)
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import numpy as np

import mvolatile as mv


class Same:
    """Equal to another of the same object. In a key it keeps the object, so that its address is nobody else's."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.store is self.store

    def __hash__(self) -> int:
        return id(self.store)


class ChunkCache:
    """Reads `array`, a zarr array that is not being written to, by chunks through a cache."""

    def __init__(self, array: Any, cache: mv.VolatileCache[Any, np.ndarray] | None = None) -> None:
        self.array = array
        if cache is None:  # an empty one is false
            cache = mv.VolatileCache(name="zarr chunks")
        self.cache = cache
        place = str(array.store_path)
        # A directory is the same whoever opens it; what others call themselves another may be called later.
        self.place = place if place.startswith("file://") else (Same(array.store), array.path)

    def chunk(self, *position: int) -> np.ndarray:
        """The decoded chunk at `position` in the grid of chunks: read-only, and not copied."""
        return self.cache.get_or_set((self.place, position), lambda: self._decode(position))

    def _decode(self, position: tuple[int, ...]) -> np.ndarray:
        where = tuple(slice(p * n, (p + 1) * n) for p, n in zip(position, self.array.chunks, strict=True))
        return np.asarray(self.array[where])

    def positions(self) -> list[tuple[int, ...]]:
        """Of all chunks."""
        return list(
            itertools.product(
                *(range(-(-size // n)) for size, n in zip(self.array.shape, self.array.chunks, strict=True))
            )
        )


def main() -> int:
    try:
        import zarr
    except ImportError:
        print("this example needs zarr: pip install zarr")
        return 77
    data = np.sin(np.arange(2000 * 2000, dtype="f4").reshape(2000, 2000) / 1000)
    array = zarr.create_array({}, shape=data.shape, chunks=(500, 500), dtype=data.dtype)
    array[:] = data
    cached = ChunkCache(array)
    for turn in ("decoding", "from the cache"):
        start = time.perf_counter()
        total = sum(float(cached.chunk(*position).sum()) for position in cached.positions())
        print(f"{turn:<16}{(time.perf_counter() - start) * 1e3:8.2f} ms, sum {total:.3f}")
    np.testing.assert_array_equal(cached.chunk(1, 2), data[500:1000, 1000:1500])
    print(cached.cache.cache_info())
    return 0


if __name__ == "__main__":
    sys.exit(main())
