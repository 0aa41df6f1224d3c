"""What comes back, of values of all kinds."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import json
import pathlib
import uuid
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatilityWarning
from mvolatile.cache import Compressed
from support.keepers import until

from .conftest import Factory
from .helpers import LARGE, purge


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: float
    y: Any = None


class Name(str):
    __slots__ = ()


PLAIN = [
    b"",
    b"abc",
    bytes(LARGE),
    "",
    "é\udc80",
    "x" * LARGE,
    0,
    -(2**200),
    1.5,
    1j,
    True,
    None,
    ...,
    (),
    (1, "a", b"b", (None,)),
    [1, [2, {"a": {3}}]],
    {"a": [b"x" * LARGE]},
    {1, 2},
    frozenset("ab"),
    range(5),
    slice(1, 2),
    bytearray(b"abc"),
    bytearray(LARGE),
    array.array("d", [1.5, 2.5]),
    collections.OrderedDict(a=1),
    collections.Counter("aab"),
    collections.deque([1, 2], 3),
    datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=5),
    pathlib.PurePosixPath("/a/b"),
    Colour.RED,
    Point(1.0, [Point(2.0)]),
    Name("name"),
    int,
    len,
]


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_plain_values(cache: Any, number: int) -> None:
    value = PLAIN[number]
    cache["k"] = value
    for _ in range(2):
        found = cache["k"]
        assert found == value
        assert type(found) is type(value)
        for change in ("clear", "append"):  # one's own: nobody else has what is done to it
            if not isinstance(value, type) and hasattr(found, change):
                getattr(found, change)(*((1,) if change == "append" else ()))
    assert cache["k"] == value


def arrays() -> list[np.ndarray[Any, Any]]:
    whole = np.arange(30_000.0).reshape(100, 300)
    return [
        np.array(5),
        np.array([], "i4"),
        np.arange(10),
        whole,
        whole[::2, 5:50],
        whole.T,
        np.asfortranarray(whole),
        whole.astype("c8"),
        np.array(["a", "bcd"]),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-02"], "M8[D]"),
        whole.astype(">f4"),
        np.zeros((3, 0, 2)),
        whole > 5,
    ]


@pytest.mark.parametrize("number", range(14))
def test_arrays(cache: Any, number: int) -> None:
    value = arrays()[number]
    cache["k"] = value
    cache["l"] = {"a": value}
    for found in (cache["k"], cache["k"], cache["l"]["a"]):
        assert type(found) is np.ndarray
        assert (found.dtype, found.shape, found.flags.f_contiguous) == (
            value.dtype,
            value.shape,
            value.flags.f_contiguous or (value.size < 2 and found.flags.f_contiguous),
        )
        assert np.array_equal(found, value)


def test_what_is_within_is_writable_and_private(cache: Any) -> None:
    masked: Any = np.ma.masked_array([1, 2], [True, False])  # type: ignore[no-untyped-call, unused-ignore]
    value: dict[str, Any] = {"a": np.arange(20_000.0), "b": bytearray(LARGE), "c": masked}
    cache["k"] = value
    first = cache["k"]
    first["a"][:] = 7
    first["b"][:] = b"x" * LARGE
    first["c"][1] = 7
    second = cache["k"]
    assert np.array_equal(second["a"], value["a"])
    assert second["b"] == bytearray(LARGE)
    assert second["c"][1] == 2
    assert type(second["c"]) is np.ma.MaskedArray


def test_what_was_read_only_is_read_only(cache: Any) -> None:
    value = np.arange(20_000.0)
    value.flags.writeable = False
    cache["k"] = [value]
    found = cache["k"][0]
    assert np.array_equal(found, value)
    assert not found.flags.writeable


@pytest.mark.parametrize("size", [3, LARGE])
def test_memoryviews(cache: Any, size: int) -> None:
    cache["r"] = memoryview(bytes(size))
    cache["w"] = memoryview(bytearray(size)).cast("B", (1, size))
    assert cache["r"].readonly
    assert cache["r"].tobytes() == bytes(size)
    found = cache["w"]
    assert (found.readonly, found.shape) == (False, (1, size))
    found[0, 0] = 5
    assert cache["w"].tobytes() == bytes(size)


def test_frames(cache: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.arange(5000.0), "b": ["x", "y"] * 2500})
    cache["k"] = frame
    found = cache["k"]
    pd.testing.assert_frame_equal(found, frame)
    found.iloc[0, 0] = 7.0
    pd.testing.assert_frame_equal(cache["k"], frame)


def test_images(cache: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 255, (70, 300, 3), np.uint8)
    colour = image.fromarray(pixels)
    written = io.BytesIO()
    colour.save(written, "PNG")
    for value in (colour, colour.convert("L"), colour.quantize(16), image.open(written)):
        cache["k"] = value
        found = cache["k"]
        assert (found.mode, found.size, found.tobytes()) == (value.mode, value.size, value.tobytes())
        found.putpixel((0, 0), found.getpixel((1, 1)))
        assert cache["k"].tobytes() == value.tobytes()


def test_codecs(cache_factory: Factory) -> None:
    coded = cache_factory(codec=Compressed())
    coded["a"] = ["x"] * 10_000
    assert coded["a"] == ["x"] * 10_000
    assert coded.cache_info().bytes < 5000
    text = cache_factory(codec=json)
    text["a"] = {"b": [1, None]}
    assert text["a"] == {"b": [1, None]}
    with pytest.raises(TypeError):
        text["b"] = b"no JSON"
    assert "b" not in text


class Fails:
    """A codec whose bytes nobody can read, for a while: as where a class has another name since the last release."""

    failing = True
    dumps = staticmethod(json.dumps)

    def loads(self, data: Any) -> Any:
        if self.failing:
            raise LookupError("not to be read")
        return json.loads(data)


def test_what_cannot_be_made_of_its_bytes(cache_factory: Factory) -> None:
    """It is a miss, and who makes it anew replaces it."""
    codec = Fails()
    cache = cache_factory(codec=codec)
    cache["k"] = 5
    with pytest.warns(VolatilityWarning, match="not to be read"):
        assert cache.get("k") is None
    assert cache.get("k", 3) == 3
    assert cache.cache_info().undecodable >= 1
    assert cache.get_or_set("k", lambda: 7) == 7
    codec.failing = False
    assert cache["k"] == 7


def test_what_the_kernel_took_is_a_miss(cache: Any) -> None:
    for i in range(10):
        cache[i] = bytes([i]) * LARGE
    cache["array"] = np.arange(30_000.0)
    before = cache.cache_info()
    assert before.currsize == 11
    purge(cache)
    assert [cache.get(i) for i in range(10)] == [None] * 10
    assert "array" not in cache
    with pytest.raises(KeyError):
        del cache[0]
    assert cache.delete_many(range(10)) == 0
    assert list(cache.items()) == []
    info = cache.cache_info()
    assert info.currsize == 0
    # Of a keeper that served other tests, clients may have counted what was cleared before it was seen lost there: the
    # larger of both counts is told.
    assert info.purged >= max(before.purged, 11)
    assert cache.get_or_set(3, lambda: b"again") == b"again"
    assert cache[3] == b"again"


def test_lost_keys_are_told(cache_factory: Factory) -> None:
    told: list[Any] = []
    cache = cache_factory(on_lost=told.extend)
    for i in range(5):
        cache["k", i] = bytes(LARGE)
    purge(cache)
    assert [cache.get(("k", i)) for i in range(5)] == [None] * 5
    until(lambda: len(told) == 5)
    assert sorted(told) == [("k", i) for i in range(5)]
