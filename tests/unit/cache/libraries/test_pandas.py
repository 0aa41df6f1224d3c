"""pandas, 2 and 3: a frame that was stored is a frame of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache

from ..helpers import on_miss_and_hits, seal

pd = pytest.importorskip("pandas", reason="pip install 'mvolatile[libraries]'")

ROWS = [5, 60, 3000]


def frame(rows: int) -> Any:
    made = pd.DataFrame({"A": np.arange(float(rows)), "B": np.arange(float(rows)), "C": np.arange(rows)})
    made["when"] = pd.date_range("2020", periods=rows, freq="min")
    made["zoned"] = made["when"].dt.tz_localize("Europe/Vienna")
    made["what"] = pd.Categorical(["a", "b", "c", "d", "e"] * (rows // 5))
    made["text"] = ["some text", "é", "x", "y", "z"] * (rows // 5)
    made["some"] = pd.array([1, None, 3, 4, 5] * (rows // 5), "Int64")
    made["yes"] = pd.array([True, None, False, True, True] * (rows // 5), "boolean")
    return made


DERIVED: dict[str, Callable[[Any], Any]] = {
    "itself": lambda d: d,
    "rename": lambda d: d.rename(columns=str.lower),
    "two columns": lambda d: d[["A", "B"]],
    "all rows by a mask": lambda d: d[d.A >= 0],
    "all rows but one": lambda d: d[d.A > 0],
    "rows": lambda d: d.iloc[:3],
    "dropna": lambda d: d[["A", "C"]].dropna(),
    "sort_values": lambda d: d.sort_values("A"),
    "reset_index": lambda d: d.reset_index(drop=True),
    "assign": lambda d: d.assign(z=1),
    "concat": lambda d: pd.concat([d]),
    "copy": lambda d: d.copy(),
    "transposed": lambda d: d[["A", "B"]].T,
    "set_index": lambda d: d.set_index("C"),
    "astype": lambda d: d[["A", "B"]].astype("f8"),
    "fillna": lambda d: d[["A", "B"]].fillna(0),
    "reindex": lambda d: d.reindex(columns=["A", "B"]),
    "query": lambda d: d.query("A >= 0"),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.filterwarnings("ignore")  # of pandas 2 about copies of a slice
def test_cells_of_what_is_derived_are_set(name: str, rows: int) -> None:
    def use(data: Any) -> Any:
        derived = DERIVED[name](data)
        derived.iloc[0, 0] = -1.0
        derived.iloc[-1:, 1] = -2.0
        return derived.iloc[0, 0], derived.iloc[-1, 1], derived.shape, float(data["A"].sum())

    said = on_miss_and_hits(lambda: frame(rows), use)
    assert said[1:] == said[:1] * 3


INPLACE: dict[str, Callable[[Any], Any]] = {
    "fillna": lambda d: d.fillna({"A": 0.0}, inplace=True),
    "clip": lambda d: d["A"].clip(1, 2, inplace=True),
    "replace": lambda d: d.replace({"A": {0.0: 5.0}}, inplace=True),
    "sort_values": lambda d: d.sort_values("A", ascending=False, inplace=True),
    "drop": lambda d: d.drop(columns="B", inplace=True),
    "update": lambda d: d.update(pd.DataFrame({"A": [9.0]})),
    "loc": lambda d: d.loc.__setitem__((0, "A"), 5.0),
    "mask": lambda d: d.loc.__setitem__((d.A < 3, "B"), 7.0),
    "at": lambda d: d.at.__setitem__((0, "text"), "new"),
    "dates": lambda d: d.loc.__setitem__((0, "when"), pd.Timestamp("1999")),
    "zoned": lambda d: d.loc.__setitem__((0, "zoned"), None),
    "categories": lambda d: d.loc.__setitem__((0, "what"), "e"),
    "Int64": lambda d: d.loc.__setitem__((0, "some"), None),
    "boolean": lambda d: d.loc.__setitem__((0, "yes"), None),
    "column": lambda d: d.__setitem__("A", d["A"] + 1),
    "insert": lambda d: d.insert(0, "new", 1),
    "array": lambda d: d["some"].array.__setitem__(0, 5),
    "dates' array": lambda d: d["when"].array.__setitem__(0, pd.NaT),
    "where": lambda d: d["A"].where(d["A"] > 2, 0.5, inplace=True),
    "iadd": lambda d: d["A"].__iadd__(1),
    "attrs": lambda d: d.attrs.setdefault("notes", []).append(1),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", INPLACE)
@pytest.mark.filterwarnings("ignore")  # of pandas 2 about what it will do otherwise
def test_changes_in_place(name: str, rows: int) -> None:
    def use(data: Any) -> Any:
        INPLACE[name](data)
        return data.head(9).to_csv(), data.tail(9).to_csv(), data.shape, data.attrs

    said = on_miss_and_hits(lambda: frame(rows), use)
    assert said[1:] == said[:1] * 3


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "int64[pyarrow]", "float64"])
@pytest.mark.parametrize(
    "method", ["cumsum", "cummax", "cummin", "sort_values", "rank", "unique", "interpolate"]
)
@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")
def test_pure_computations(dtype: str, method: str) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow", reason="pip install 'mvolatile[libraries]'")

    def use(column: Any) -> Any:
        try:
            return str(getattr(column, method)())
        except (TypeError, NotImplementedError, ValueError) as error:
            return type(error)

    values = [True, None, False] if dtype == "boolean" else [3, 1, None]
    said = on_miss_and_hits(lambda: pd.Series(values * 5000, dtype=dtype), use)
    assert said[1:] == said[:1] * 3


OTHERS: dict[str, Callable[[], Any]] = {
    "frame": lambda: frame(20_000),
    "view of rows": lambda: frame(20_000)[10:15],
    "view backwards": lambda: frame(20_000)[::-2],
    "series": lambda: frame(20_000)["A"],
    "index": lambda: pd.Index(np.arange(20_000.0)),
    "dates": lambda: pd.date_range("2020", periods=20_000, freq="h"),
    "periods": lambda: pd.period_range("2020", periods=20_000, freq="h"),
    "multi": lambda: frame(20_000).set_index(["what", "C"]),
    "intervals": lambda: pd.cut(np.arange(20_000.0), 9),
    "timedeltas": lambda: frame(20_000)["when"].diff(),
    "categorical": lambda: frame(20_000)["what"].array,
    "sparse": lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1] * 9000)),
    "duplicate names": lambda: frame(20_000)[["A", "A"]],
    "empty": lambda: frame(20_000)[:0],
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("copy", [None, True, False])
def test_what_goes_in_comes_out(name: str, copy: bool | None) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(copy=copy)
    cache["k"] = OTHERS[name]()
    for _ in range(2):
        found, wanted = cache["k"], OTHERS[name]()
        assert type(found) is type(wanted)
        if name != "sparse" or copy is not False:  # pandas 2 compares only what can be written to
            assert found.equals(wanted) if hasattr(found, "equals") else (found == wanted).all()
        seal(cache)


def test_rows_are_stored_without_their_frame() -> None:
    cache: VolatileCache[str, Any] = VolatileCache(max_bytes=20_000)
    whole = frame(20_000)
    for part in (whole[10:15], whole["A"][10:15], whole[["text"]][10:15], whole.iloc[::4000]):
        cache["k"] = part
        assert cache["k"].equals(part)


def test_names_that_a_frame_has_as_attributes_are_a_hits_own() -> None:
    made = frame(60)
    made.attrs["notes"] = ["first"]
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = made
    found = cache["k"]
    found.attrs["notes"].append("second")
    found.columns.name = "changed"
    assert cache["k"].attrs == {"notes": ["first"]}
    assert cache["k"].columns.name is None
