"""Nothing that can be changed is shared by hits: not of one key, not of several, not of several caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache

from .helpers import seal

POINT = [("lon", "f8"), ("lat", "f8")]


def rename(dtype: Any) -> None:
    dtype.names = ("x", "y")


def names(dtype: Any) -> Any:
    return dtype.names


def rename_inner(dtype: Any) -> None:
    dtype["place"].names = ("x", "y")


def annotate(dtype: Any) -> None:
    dtype.metadata["units"].append("m")


CHANGES: list[tuple[Any, Callable[[Any], None], Callable[[Any], Any]]] = [
    (np.dtype(POINT), rename, names),
    (np.dtype([("place", POINT), ("n", "i4")]), rename_inner, lambda dtype: dtype["place"].names),
    (
        np.dtype([("place", POINT, (2,)), ("n", "i4")]),
        lambda d: rename(d["place"].base),
        lambda d: d["place"].base.names,
    ),
    (np.dtype(POINT, align=True), rename, names),
    (np.dtype("f8", metadata={"units": []}), annotate, lambda dtype: list(dtype.metadata["units"])),
]


FORMS = [
    (form, number) for form in ("array", "within", "read-only within") for number in range(len(CHANGES))
] + [("memoryview", 0)]
"""A memoryview tells of a dtype what its format can say, and of nested ones less."""


@pytest.mark.parametrize("n", [3, 20_000])
@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize(("form", "number"), FORMS)
def test_a_dtype_is_a_hits_own(form: str, n: int, copy: bool | None, number: int) -> None:
    dtype, change, told = CHANGES[number]

    def value() -> Any:
        array = np.zeros(n, dtype)
        array.flags.writeable = form != "read-only within"
        return {"array": array, "memoryview": array.data}.get(form, [array])

    def dtype_of(found: Any) -> Any:
        if form == "memoryview":
            return found.obj.dtype
        return found.dtype if form == "array" else found[0].dtype

    caches = [VolatileCache(copy=copy), VolatileCache(copy=copy)]
    for cache in caches:
        cache["a"] = value()
        cache["b"] = value()
    wanted = told(dtype)
    for _ in range(2):
        change(dtype_of(caches[0]["a"]))
        caches[1]["new"] = value()
        for cache in caches:
            for key in cache:
                assert told(dtype_of(cache[key])) == wanted
            seal(cache)
    assert told(dtype) == wanted


def test_a_change_to_what_was_stored_is_not_seen_either() -> None:
    array, words = np.zeros(20_000, POINT), ["a"]
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["array"], cache["words"] = array, {"kept": words}
    array.dtype.names = ("x", "y")
    array["x"] = 1
    words.append("b")
    assert cache["array"].dtype.names == ("lon", "lat")
    assert not cache["array"]["lon"].any()
    assert cache["words"] == {"kept": ["a"]}


def test_an_images_notes_are_a_hits_own() -> None:
    image = pytest.importorskip("PIL.Image").new("P", (100, 100))
    image.info["comment"] = ["first"]
    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = image
    found = cache["k"]
    found.info["comment"].append("second")
    found.putpalette([9] * 768)
    assert cache["k"].info == {"comment": ["first"]}
    assert cache["k"].getpalette() == image.getpalette()
