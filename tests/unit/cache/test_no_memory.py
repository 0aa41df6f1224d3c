"""One allocation of Python's fails, whichever: no wrong value comes of it, and the cache goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache import pressure

from .helpers import is_valid, seal

testcapi = pytest.importorskip("_testcapi", reason="a Python without its own tests' module")

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="coverage's tracer does not survive that an allocation fails"
)
LARGE = b"L" * 100_000
OPERATIONS: dict[str, Callable[[VolatileCache[Any, Any]], Any]] = {
    "get": lambda cache: cache.get(5),
    "get large": lambda cache: cache.get("L"),
    "get pickled": lambda cache: cache.get("d"),
    "set": lambda cache: cache.set("x", b"new"),
    "set large": lambda cache: cache.set("x", LARGE),
    "fill": lambda cache: [cache.set(1000 + i, bytes(900)) for i in range(5)],
    "touch": lambda cache: cache.touch("x", 1000),
    "add": lambda cache: cache.add("z", b"new"),
    "make": lambda cache: cache.get_or_set("y", lambda: b"made"),
    "delete": lambda cache: cache.delete_many(range(40)),
}


def prepared() -> tuple[VolatileCache[Any, Any], dict[Any, Any]]:
    cache: VolatileCache[Any, Any] = VolatileCache(max_bytes=200_000)
    model: dict[Any, Any] = {i: b"%d" % i * 50 for i in range(60)}
    cache.update(model)
    seal(cache)
    model |= {"x": b"old", "d": {"a": 1}, "L": LARGE}
    cache.update(model)
    return cache, model


# What fails while a generator or a finalizer ends is nobody's to raise.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# A made value that could not be stored is told of: where the class of its cost, a float, is what there was no memory
# for. Whether that is allocated depends on how many floats died before, in whatever test.
@pytest.mark.filterwarnings("ignore::mvolatile.VolatilityWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_at_any_allocation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "listen", lambda cache: None)
    operation = OPERATIONS[name]
    for start in range(120):
        cache, model = prepared()
        with suppress(MemoryError):
            testcapi.set_nomemory(start, start + 1)
            try:
                operation(cache)
            finally:
                testcapi.remove_mem_hooks()
        for key, value in cache.items():
            assert value in (model.get(key), b"new", LARGE, bytes(900), b"made"), (key, start)
            assert value == model.get(key, value) or key == "x"
        cache["after"] = b"after"
        assert cache["after"] == b"after"
        cache.cache_info()
        is_valid(cache)
        cache.close()
