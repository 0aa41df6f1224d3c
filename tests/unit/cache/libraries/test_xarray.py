"""xarray: what is in memory is stored; what is still in a file is stored as a reference to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache
from mvolatile.cache.values import encode

from ..helpers import on_miss_and_hits

WHY = "pip install 'mvolatile[libraries]'"
xr = pytest.importorskip("xarray", reason=WHY)


def dataset() -> Any:
    values = np.arange(40_000.0).reshape(200, 200)
    made = xr.Dataset({"t": (("a", "b"), values), "n": ("a", np.arange(200))}, {"a": np.arange(200)})
    made.attrs["notes"] = ["first"]
    return made


USES: dict[str, Callable[[Any], Any]] = {
    "values": lambda d: d.t.values.__setitem__((0, 0), -1),
    "sel": lambda d: d.t.loc.__setitem__({"a": 3}, 0.5),
    "isel": lambda d: d.isel(a=slice(3)).t.__setitem__((0, 1), 5),
    "iadd": lambda d: d.t.__iadd__(1),
    "assign": lambda d: d.__setitem__("z", d.t + 1),
    "attrs": lambda d: d.attrs["notes"].append("second"),
    "fillna": lambda d: d.fillna(0).t.values.__setitem__((0, 0), 3),
    "coordinates": lambda d: d.coords.__setitem__("b", np.arange(200)),
}


@pytest.mark.parametrize("name", USES)
def test_datasets_are_written_to(name: str) -> None:
    def use(data: Any) -> Any:
        USES[name](data)
        return float(data.t.sum()), data.attrs, sorted(data.variables)

    said = on_miss_and_hits(dataset, use)
    assert said[1:] == said[:1] * 3


def test_a_part_takes_what_it_needs() -> None:
    part = dataset().isel(a=slice(2), b=slice(3))
    assert encode(part).nbytes < 10_000
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = part
    assert cache["k"].identical(part)


def test_what_is_in_a_file_is_stored_only_once_it_is_loaded(tmp_path: Any) -> None:
    pytest.importorskip("scipy", reason=WHY)
    path = tmp_path / "data.nc"
    dataset()[["t"]].drop_attrs().to_netcdf(path, engine="scipy")
    cache: VolatileCache[str, Any] = VolatileCache()
    with xr.open_dataset(path, engine="scipy") as lazy:
        cache["reference"] = lazy
        cache["loaded"] = lazy.load()
    path.unlink()
    assert float(cache["loaded"].t.sum()) == float(dataset().t.sum())
    with pytest.raises(FileNotFoundError):
        cache["reference"].t.sum()
