"""PyArrow's data do not change, and are not copied; a slice is stored without its parent. Polars keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.values import encode

from ..helpers import lies_in, on_miss_and_hits, seal

WHY = "pip install 'mvolatile[libraries]'"
pa = pytest.importorskip("pyarrow", reason=WHY)

N = 20_000
LONG = pa.array([f"text number {i} that is rather long" for i in range(N)])


def dense_union() -> Any:
    kinds, offsets = (
        pa.array([0, 1] * (N // 2), pa.int8()),
        pa.array(np.repeat(np.arange(N // 2), 2), pa.int32()),
    )
    children = [pa.array(range(N // 2)), pa.array([str(i) for i in range(N // 2)])]
    return pa.UnionArray.from_dense(kinds, offsets, children)


def sparse_union() -> Any:
    return pa.UnionArray.from_sparse(pa.array([0, 1] * (N // 2), pa.int8()), [pa.array(range(N)), LONG])


ARRAYS: dict[str, Callable[[], Any]] = {
    "numbers": lambda: pa.array(np.arange(N)),
    "with nulls": lambda: pa.array([1, None] * (N // 2)),
    "text": lambda: LONG,
    "large text": lambda: LONG.cast(pa.large_string()),
    "views of text": lambda: LONG.cast(pa.string_view()),
    "views of bytes": lambda: LONG.cast(pa.string_view()).cast(pa.binary_view()),
    "booleans": lambda: pa.array([True, None] * (N // 2)),
    "dates": lambda: pa.array(np.zeros(N, "M8[us]")),
    "lists": lambda: pa.array([[i, i + 1] for i in range(N)]),
    "views of lists": lambda: pa.array([[i, i + 1] for i in range(N)], pa.list_view(pa.int64())),
    "lists of two": lambda: pa.array([[i, i + 1] for i in range(N)], pa.list_(pa.int64(), 2)),
    "structures": lambda: pa.array([{"a": i, "b": str(i)} for i in range(N)]),
    "maps": lambda: pa.array([[(str(i), i)] for i in range(N)], pa.map_(pa.string(), pa.int64())),
    "codes": lambda: pa.array(["a", "b"] * (N // 2)).dictionary_encode(),
    "runs": lambda: pa.compute.run_end_encode(pa.array(np.arange(N) // 10)),
    "nothing": lambda: pa.nulls(N),
    "decimals": lambda: pa.array(range(N), pa.decimal128(20, 2)),
    "dense union": dense_union,
    "sparse union": sparse_union,
    "identifiers": lambda: pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"0" * 16] * N, pa.binary(16))
    ),
}
array_of = lru_cache(None)(lambda name: ARRAYS[name]())

FORMS: dict[str, Callable[[Any], Any]] = {
    "array": lambda array: array,
    "chunks": lambda array: pa.chunked_array([array, array]),
    "batch": lambda array: pa.record_batch([array], ["x"]),
    "table": lambda array: pa.table({"x": array, "n": np.arange(len(array))}),
    "within": lambda array: {"x": [array]},
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("copy", [None, True, False])
def test_a_slice_takes_what_it_needs(name: str, form: str, copy: bool | None) -> None:
    import pyarrow.compute  # noqa: F401  (pa.compute)

    whole = array_of(name)
    part: Any = {"x": [whole.slice(1000, 5)]} if form == "within" else FORMS[form](whole).slice(1000, 5)
    assert encode(part, copy=copy).nbytes < 10_000
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    value: Any
    for value in (part, FORMS[form](whole)):
        cache["k"] = value
        seal(cache)
        found: Any = cache["k"]
        assert found == value
        if form != "within":
            found.validate(full=True)
            assert found.type == value.type if form in ("array", "chunks") else found.schema == value.schema


def test_a_page_of_a_table_is_cached_under_a_bound() -> None:
    table = pa.table({"a": np.arange(200_000), "s": pa.array(["x" * 10] * 200_000)})
    made: list[int] = []

    @volatile_cache(max_bytes=1 << 20)
    def page(n: int) -> Any:
        made.append(n)
        return table.slice(n * 100, 100)

    for _ in range(3):
        for n in range(5):
            assert page(n).equals(table.slice(n * 100, 100))
    assert made == list(range(5))


@pytest.mark.parametrize("copy", [None, True, False])
def test_what_is_not_copied(copy: bool | None) -> None:
    table = pa.table(
        {"n": np.arange(50_000), "s": ["text é"] * 50_000, "fixed": pa.array(list(bytes(50_000)))}
    )
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = table
    seal(cache)
    found = cache["k"]
    assert found.equals(table)
    buffers = [
        buffer for column in found.columns for buffer in column.chunk(0).buffers() if buffer is not None
    ]
    assert len(buffers) >= 4
    for buffer in buffers:
        assert lies_in(cache, np.frombuffer(buffer, np.uint8)) == (copy is not True)
    assert cache.cache_info().pinned_bytes > 0 or copy


@pytest.mark.parametrize("data", [bytes(100_000), bytearray(100_000)])
@pytest.mark.parametrize("copy", [None, True, False])
def test_buffers(data: Any, copy: bool | None) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = [pa.py_buffer(data)]
    seal(cache)
    found = cache["k"][0]
    assert found.equals(pa.py_buffer(data))
    assert lies_in(cache, np.frombuffer(found, np.uint8)) == (copy is not True)


USES: dict[str, Callable[[Any], Any]] = {
    "to_pandas": lambda t: (d := t.to_pandas(), d.iloc.__setitem__((0, 0), 5), d.to_csv())[2],
    "to_numpy": lambda t: [c.to_numpy().flags.writeable for c in t.columns],
    "dlpack": lambda t: np.from_dlpack(t["a"].chunk(0)).flags.writeable,
    "combine": lambda t: t.combine_chunks().num_rows,
    "sort": lambda t: t.sort_by([("a", "descending")]).slice(0, 3).to_pydict(),
    "filter": lambda t: t.filter(pa.compute.field("a") > 5).num_rows,
    "set_column": lambda t: t.set_column(0, "a", [t["a"]]).num_rows,
    "cast": lambda t: t.cast(pa.schema([("a", "f8"), ("s", "large_string")])).num_rows,
    "join": lambda t: t.join(t, "a", right_suffix="_").num_rows,
}


@pytest.mark.parametrize("name", USES)
def test_tables_are_used_as_what_was_made_is(name: str) -> None:
    import pyarrow.compute  # noqa: F401

    if name == "to_pandas":
        pytest.importorskip("pandas", reason=WHY)
    said = on_miss_and_hits(lambda: pa.table({"a": np.arange(9000), "s": ["x"] * 9000}), USES[name])
    assert said[1:] == said[:1] * 3


with suppress(ImportError):  # its threads and their descriptors come with its first query, and stay
    import polars

    polars.DataFrame({"a": [1]}).lazy().select("a").collect()


def polars_frame() -> Any:
    pl = pytest.importorskip("polars", reason=WHY)
    return pl.DataFrame({"a": np.arange(50_000), "s": ["text"] * 50_000, "f": np.arange(50_000.0)})


def test_polars_frames_and_their_slices() -> None:
    def use(data: Any) -> Any:
        data[0, "a"] = 7
        data.insert_column(0, data["a"].alias("b"))
        return data.head(9).to_dicts(), data.sum().to_dicts()

    said = on_miss_and_hits(polars_frame, use)
    assert said[1:] == said[:1] * 3
    whole = polars_frame()
    for part in (whole[10:15], whole["s"][10:15], whole.filter(whole["a"] > 5)[:5]):
        assert encode(part).nbytes < 5000
        cache: VolatileCache[str, Any] = VolatileCache()
        cache["k"] = part
        assert cache["k"].equals(part)
