"""What goes in comes out: equal, of the same type, and safe to keep."""

from __future__ import annotations

import array
import ast
import ctypes
import datetime
import gc
import json
import marshal
import pickle
import random
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mvolatile as mv
from mvolatile import VolatileCache
from mvolatile.cache import Compressed
from mvolatile.cache.engine import engine_of

from .helpers import purge, seal

PLAIN = [
    b"",
    b"bytes",
    "",
    "text é \ud800",
    bytearray(b"mutable"),
    0,
    -(10**30),
    1.5,
    True,
    None,
    (1, [2, {"three": {4}}]),
    datetime.date(2020, 2, 29),
    Fraction(1, 3),
    array.array("d", [1, 2]),
    range(3),
    print,
    b"z" * 200_000,
    "z" * 200_000,
    bytearray(200_000),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: f"{type(value).__name__}-{str(value)[:8]!r}")
@pytest.mark.parametrize("sealed", [False, True])
def test_plain_values(value: Any, sealed: bool) -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = value
    if sealed:
        seal(cache)
    assert cache["k"] == value
    assert type(cache["k"]) is type(value)
    cache.set("k", value, ttl=1000)
    assert cache["k"] == value


ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(40)[::3],
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.zeros((0, 3), "i2"),
    np.array(5),
    np.array(["2020-01-01", "NaT"], "M8[D]"),
    np.array([(1, 2.0, b"x")], [("a", "i4"), ("b", ">f8"), ("c", "S3")]),
    np.array(["text", "é"]),
    np.array([True, False]),
    np.zeros(3, ">c16"),
    np.random.default_rng(0).random((200, 300)),
    np.asfortranarray(np.random.default_rng(0).random((200, 300))),
    np.random.default_rng(0).random((400, 300))[::2, ::-1],
    np.asfortranarray(np.random.default_rng(0).random((400, 300)))[::2, ::-1],
    np.random.default_rng(0).random((20, 30, 40)).transpose(1, 0, 2),
    np.moveaxis(np.random.default_rng(0).random((2, 3, 4, 5)), 0, -1)[::-1],
    np.random.default_rng(0).random((3, 1, 4)).transpose(2, 1, 0),
    np.broadcast_to(np.arange(4), (3, 4)),
    np.broadcast_to(np.arange(400.0)[:, None], (400, 400)),
    np.zeros((3, 0, 5), order="F"),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}{value.shape}")
@pytest.mark.parametrize("sealed", [False, True])
def test_arrays_keep_dtype_shape_and_order(value: np.ndarray, sealed: bool) -> None:
    cache: VolatileCache[str, np.ndarray] = VolatileCache()
    cache["k"] = value
    if sealed:
        seal(cache)
    found = cache["k"]
    np.testing.assert_array_equal(found, value)
    assert found.dtype == value.dtype
    assert found.shape == value.shape
    assert found.flags.aligned
    if 0 not in value.strides and value.size:
        kept = zip(value.shape, found.strides, value.copy("K").strides, strict=True)
        assert all(step == wanted for n, step, wanted in kept if n > 1)
    assert found.flags.c_contiguous or not value.flags.c_contiguous
    assert found.flags.f_contiguous or not value.flags.f_contiguous
    assert not found.flags.writeable, "whatever its size"


def test_an_array_of_objects_and_a_subclass_are_pickled() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["objects"] = np.array([1, "a", None], object)
    assert cache["objects"].tolist() == [1, "a", None]
    masked = np.ma.masked_array(np.arange(30_000), np.arange(30_000) % 2 == 1)
    cache["masked"] = masked
    assert isinstance(cache["masked"], np.ma.MaskedArray)
    assert cache["masked"].sum() == masked.sum()


class Padded(ctypes.Structure):
    _fields_ = (("x", ctypes.c_char), ("y", ctypes.c_double))


VIEWS: list[Any] = [
    b"abc",
    b"",
    memoryview(b"abcdef").cast("c"),
    memoryview(b"").cast("c"),
    memoryview(bytes(24)).cast("@i", (2, 3)),
    array.array("i", [1, 2, 3]),
    array.array("d"),
    np.arange(6, dtype="i4").reshape(2, 3),
    np.arange(9, dtype="i4")[::2],
    np.arange(9)[::-1],
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(100_000.0),
    np.array(7),
    np.zeros((0, 3)),
    np.zeros((3, 0, 2), ">i4"),
    np.arange(3, dtype=">i4"),
    np.arange(30_000, dtype=">i4").reshape(3, -1),
    np.arange(3, dtype="f2"),
    np.arange(3, dtype="g"),
    np.arange(3) * 1j,
    np.array([(1, 2.0)], "i4, f8"),
    np.array([(1, 2.0)], np.dtype("u1, f8", align=True)),
    np.array([([1, 2, 3], 4)], [("a", "i4", (3,)), ("b", "u1")]),
    np.array(["text", "é"]),
    np.zeros(2, "V7"),
    np.arange(2, dtype=">i4").data.cast("B"),
    (ctypes.c_int * 3)(1, 2, 3),
    (ctypes.c_double * 2 * 3)(),
    ctypes.c_int(5),
    ctypes.c_short.__ctype_be__(5),
]


@pytest.mark.parametrize("value", VIEWS, ids=lambda value: str(memoryview(value).format))
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    ("copy", "given", "wanted"),
    [
        (None, "as it is", "as it was"),
        (None, "read-only", "read-only"),
        (False, "as it is", "read-only"),
        (True, "as it is", "as it was"),
    ],
)
def test_memoryviews_come_back_as_memoryviews(
    value: Any, sealed: bool, copy: bool | None, given: str, wanted: str
) -> None:
    cache: VolatileCache[str, memoryview] = VolatileCache(copy=copy)
    view = memoryview(value) if given == "as it is" else memoryview(value).toreadonly()
    cache["k"] = view
    if sealed:
        seal(cache)
    found = cache["k"]
    assert type(found) is memoryview
    assert found.tobytes() == view.tobytes()
    assert found.readonly == (view.readonly or wanted == "read-only")
    assert (found.format, found.shape, found.itemsize) == (view.format, view.shape, view.itemsize)
    assert found == view or view != view, "Python compares not all formats"


@pytest.mark.parametrize("value", [np.array([1, None], object), (ctypes.c_void_p * 2)(), Padded()])
def test_a_memoryview_that_cannot_be_made_again_is_not_stored(value: Any) -> None:
    cache: VolatileCache[str, memoryview] = VolatileCache()
    with pytest.raises(TypeError, match="cannot be cached"):
        cache["k"] = memoryview(value)
    assert "k" not in cache


def test_a_large_array_lies_in_the_caches_memory_and_holds_it() -> None:
    cache: VolatileCache[str, np.ndarray] = VolatileCache()
    value = np.random.default_rng(1).random((1000, 300))
    cache["k"] = value
    found = cache["k"]
    (region,) = engine_of(cache).store.regions.values()
    start = region.memory.address
    assert start <= found.ctypes.data < start + region.memory.nbytes
    assert found.ctypes.data % 64 == 0
    assert cache.cache_info().pinned_bytes == region.memory.nbytes
    if mv.features().can_purge:
        with pytest.raises(BufferError):
            region.memory.purge()
    part = found[10:20]
    del found
    cache["k"] = np.zeros(3)
    del region
    assert cache.cache_info().pinned_bytes > 2_000_000, (
        "a pinned memory counts though its value is overwritten"
    )
    np.testing.assert_array_equal(part, value[10:20])
    del part
    gc.collect()
    assert cache.cache_info().pinned_bytes < 100_000


class Holder:
    """Something that pickles with a large buffer in it."""

    def __init__(self, data: np.ndarray, label: str) -> None:
        self.data, self.label = data, label


def test_large_buffers_of_a_pickle_are_not_copied_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "__module__", __name__)
    monkeypatch.setitem(
        __import__("sys").modules, __name__, __import__("types").SimpleNamespace(Holder=Holder)
    )
    cache: VolatileCache[str, Holder] = VolatileCache(copy=False)
    cache["k"] = Holder(np.arange(50_000.0), "x")
    found = cache["k"]
    assert found.label == "x"
    np.testing.assert_array_equal(found.data, np.arange(50_000.0))
    (region,) = engine_of(cache).store.regions.values()
    assert 0 <= found.data.ctypes.data - region.memory.address < region.memory.nbytes
    if mv.features().can_purge:
        with pytest.raises(BufferError):
            region.memory.purge()


@pytest.mark.parametrize("size", [0, 1, 60, 70, 1000, 100_000])
@pytest.mark.parametrize("copy", [None, False, True])
def test_arrays_within_values_are_writable_whatever_their_size_but_without_a_copy(
    size: int, copy: bool | None
) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    whole = np.arange(2.0 * size)
    cache["k"] = {
        "whole": whole,
        "gaps": whole[::2],
        "square": whole.reshape(2, -1)[:, ::2],
        "f": whole.reshape(2, -1).T,
    }
    for _ in range(2):
        found = cache["k"]
        assert all(array.flags.writeable == (copy is not False) for array in found.values())
        assert all(array.flags.aligned for array in found.values())
        np.testing.assert_array_equal(found["gaps"], whole[::2])
        np.testing.assert_array_equal(found["square"], whole.reshape(2, -1)[:, ::2])
        np.testing.assert_array_equal(found["f"], whole.reshape(2, -1).T)
        seal(cache)


@given(st.lists(st.binary(max_size=3000), max_size=5))
@settings(max_examples=50, deadline=None)
def test_pickles_with_any_buffers(buffers: list[bytes]) -> None:
    value = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
    cache: VolatileCache[str, list[np.ndarray]] = VolatileCache()
    cache["k"] = value
    assert [part.tobytes() for part in cache["k"]] == buffers


class Zipped:
    """A codec as users write them, which takes bytes for granted."""

    def dumps(self, value: Any) -> bytes:
        return zlib.compress(repr(value).encode())

    def loads(self, data: Any) -> Any:
        assert type(data) is bytes
        return ast.literal_eval(zlib.decompress(data).decode())


@pytest.mark.parametrize(
    "codec",
    [pickle, json, marshal, Compressed(), Zipped()],
    ids=["pickle", "json", "marshal", "compressed", "zipped"],
)
@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_codecs(codec: Any, size: int) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(codec=codec)
    value = [random.Random(size).randbytes(size).hex(), 1]
    cache["k"] = value
    assert cache["k"] == value
    seal(cache)
    assert cache["k"] == value
    cache.set("k", value, ttl=1000)
    assert cache["k"] == value
    assert isinstance(codec, Compressed | Zipped) <= (cache.cache_info().bytes < 1.5 * size + 100)
    if mv.features().can_purge:
        assert purge(cache)
        assert cache.get("k") is None


@pytest.mark.parametrize(
    "value", [lambda: 1, (i for i in range(3)), open], ids=["lambda", "generator", "fine"]
)
def test_what_does_not_pickle_is_a_type_error(value: Any) -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    if value is open:
        cache["k"] = value
        return
    cache["k"] = "old"
    with pytest.raises(TypeError, match="cannot be cached: it does not pickle"):
        cache["k"] = value
    assert cache["k"] == "old"
    is_there = cache.get_or_set("other", lambda: 5)
    assert is_there == 5


def test_what_does_not_pickle_says_why_though_its_exception_says_nothing() -> None:
    class Silent:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise NotImplementedError

    cache: VolatileCache[str, Any] = VolatileCache()
    with pytest.raises(TypeError, match=r"does not pickle: NotImplementedError\(\)"):
        cache["k"] = Silent()


def test_keys_that_do_not_hash() -> None:
    cache: VolatileCache[Any, Any] = VolatileCache()
    for use in (
        lambda: cache.get([]),
        lambda: cache.set([], 1),
        lambda: cache.pop([]),
        lambda: cache.get_or_set([], int),
        lambda: [] in cache,
    ):
        with pytest.raises(TypeError, match="unhashable"):
            use()
