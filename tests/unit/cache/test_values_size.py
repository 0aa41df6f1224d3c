"""What is stored is what the value needs: not the whole of which it is a part, and not one item many times."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from mvolatile import VolatileCache
from mvolatile.cache.values import encode

from .helpers import seal

WHOLE = np.arange(1_000_000.0)

PARTS: dict[str, Callable[[], Any]] = {
    "rows": lambda: WHOLE[10:15],
    "every thousandth": lambda: WHOLE[::1000],
    "backwards": lambda: WHOLE[100:50:-1],
    "a column": lambda: WHOLE.reshape(1000, 1000)[:, 3],
    "a corner": lambda: WHOLE.reshape(1000, 1000)[:9, :9],
    "a field": lambda: np.zeros(1000, [("a", "f8"), ("b", "V100000")])["a"],
    "within": lambda: {"x": WHOLE[10:15], "y": [WHOLE[::1000]]},
    "masked": lambda: np.ma.masked_array(WHOLE, WHOLE > 5)[:9],
    "a subclass": lambda: WHOLE.view(np.recarray)[:9],
    "objects": lambda: np.array([None] * 100_000, object)[:9],
    "memoryview": lambda: WHOLE.data[10:15],
    "every thousandth of a memoryview": lambda: WHOLE.data[::1000],
    "a view of mapped memory": lambda: memoryview(mmap.mmap(-1, 8_000_000))[:40],
    "real parts": lambda: WHOLE[:1000].astype("c16").real,
    "one item, many times": lambda: np.broadcast_to(WHOLE[:1], (1000, 1000)),
    "one item in all directions": lambda: np.broadcast_to(np.float64(1.5), (100, 100, 100)),
    "one row, many times": lambda: np.broadcast_to(WHOLE[:1000], (1000, 1000)),
    "one column, many times": lambda: np.broadcast_to(WHOLE[:1000, None], (1000, 1000)),
    "one row, backwards": lambda: np.broadcast_to(WHOLE[:1000], (1000, 1000))[::-1, ::-1],
    "windows": lambda: sliding_window_view(WHOLE[:1000], 500),
    "windows, backwards": lambda: sliding_window_view(WHOLE[:1000], 500)[::-1],
    "many times, within": lambda: {"x": np.broadcast_to(WHOLE[:1], (1000, 1000))},
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("copy", [None, False])
def test_a_part_takes_what_it_needs(name: str, copy: bool | None) -> None:
    value = PARTS[name]()
    assert encode(value, copy=copy).nbytes < 20_000
    cache: VolatileCache[str, Any] = VolatileCache(max_bytes=100_000, copy=copy)
    cache["k"] = value
    seal(cache)
    found = cache["k"]
    if isinstance(value, dict):
        found, value = found["x"], value["x"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(value))
    assert np.shape(found) == np.shape(value)


def test_items_that_lie_over_each_other_and_are_written_to() -> None:
    """As stored they would be read-only; one of one's own has an item for each place."""
    value = as_strided(np.arange(4.0), (3, 2), (8, 8), writeable=True)
    given: list[tuple[Any, Any]] = [(value, {"copy": True}), ([value], {})]
    for stored, options in given:
        cache: VolatileCache[str, Any] = VolatileCache(**options)
        cache["k"] = stored
        found = cache["k"] if stored is value else cache["k"][0]
        np.testing.assert_array_equal(found, value)
        found[0, 1] = 9
        assert found.tolist() == [[0, 9], [1, 2], [2, 3]]
        assert value.tolist() == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "F"])
def test_a_crop_of_an_image(mode: str) -> None:
    image = pytest.importorskip("PIL.Image")
    whole = image.new(mode, (1000, 1000))
    part = whole.crop((10, 10, 15, 15))
    assert encode(part).nbytes < 2000
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = part
    assert cache["k"].tobytes() == part.tobytes()
