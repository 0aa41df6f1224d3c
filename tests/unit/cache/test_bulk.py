"""Values with large buffers in them: a DataFrame, an Arrow table, a PIL image, and what of them is not copied."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache

from .helpers import lies_in, seal


def images() -> list[Any]:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (70, 300, 3), np.uint8)
    colour = image.fromarray(pixels)
    rgba = colour.copy()
    rgba.putalpha(100)
    palette = colour.quantize(16)
    palette.info["transparency"] = 3
    informed = colour.convert("L")
    informed.info = {"dpi": (300, 300), "comment": "é"}
    files = []
    for kind in ("PNG", "JPEG"):
        written = io.BytesIO()
        colour.save(written, kind)
        files.append(image.open(io.BytesIO(written.getvalue())))
    return [
        *(colour.convert(mode) for mode in ("1", "L", "LA", "I", "F", "CMYK", "YCbCr", "HSV", "RGBX")),
        image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200),
        colour,
        rgba,
        palette,
        palette.convert("PA"),
        informed,
        image.new("RGB", (0, 5)),
        colour.resize((3, 2)),
        *files,
    ]


@pytest.mark.parametrize("number", range(18))
def test_images_are_what_pickle_makes_of_them(number: int) -> None:
    value = images()[number]
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = value
    seal(cache)
    found, wanted = cache["k"], pickle.loads(pickle.dumps(value))
    assert found == wanted
    assert found.tobytes() == value.tobytes()
    assert (type(found), found.mode, found.size, found.info) == (
        type(wanted),
        wanted.mode,
        wanted.size,
        wanted.info,
    )
    assert found.getpalette() == value.getpalette()
    assert not found.readonly
    if value.width:
        found.putpixel((0, 0), found.getpixel((1, 1)))
    assert cache["k"] == wanted, "a hit gives an image of one's own"


def test_an_images_pixels_are_no_part_of_the_pickle() -> None:
    from mvolatile.cache.values import encode

    for value in (images()[9], images()[-1], [images()[9]]):
        meta, bulk = encode(value).parts[1], encode(value).parts[3]
        assert len(meta) < 5000 < bulk.nbytes


def test_the_numbers_of_a_data_frame_are_not_copied_if_asked() -> None:
    pd = pytest.importorskip("pandas")
    cache: VolatileCache[str, Any] = VolatileCache(copy=False)
    frame = pd.DataFrame(np.random.default_rng(0).random((20_000, 4)), columns=list("abcd"))
    frame["n"] = np.arange(len(frame))
    frame["when"] = pd.date_range("2020", periods=len(frame), freq="min")
    frame["what"] = pd.Categorical(["a", "b"] * (len(frame) // 2))
    cache["k"] = frame
    seal(cache)
    found = cache["k"]
    pd.testing.assert_frame_equal(found, frame)
    for name in ("a", "d", "n"):
        assert lies_in(cache, found[name].to_numpy())
        assert np.shares_memory(found[name].to_numpy(), cache["k"][name].to_numpy()), "two hits, one memory"
    with pytest.raises(ValueError, match="read-only"):
        found.iloc[0, 0] = 1.0
    changed = found.copy()
    changed.iloc[0, 0] = 1.0
    assert cache["k"].iloc[0, 0] == frame.iloc[0, 0]


@pytest.mark.parametrize("rows", [3, 60, 70, 5000])
def test_a_data_frame_without_a_copy_is_read_only_whatever_its_size(rows: int) -> None:
    pd = pytest.importorskip("pandas")
    cache: VolatileCache[str, Any] = VolatileCache(copy=False)
    cache["k"] = pd.DataFrame(np.arange(2.0 * rows).reshape(rows, 2))[::-1]
    found = cache["k"]
    with pytest.raises(ValueError, match="read-only"):
        found.iloc[0, 0] = 1.0


def test_an_arrow_table_is_not_copied() -> None:
    pa = pytest.importorskip("pyarrow")
    cache: VolatileCache[str, Any] = VolatileCache()
    table = pa.table({"n": np.arange(50_000), "s": ["text é"] * 50_000})
    cache["k"] = table
    seal(cache)
    found = cache["k"]
    assert found.equals(table)
    for name in ("n", "s"):
        buffers = [buffer for buffer in found[name].chunk(0).buffers() if buffer is not None]
        assert buffers
        assert all(lies_in(cache, np.frombuffer(buffer, np.uint8)) for buffer in buffers)
