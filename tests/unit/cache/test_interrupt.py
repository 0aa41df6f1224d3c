"""A KeyboardInterrupt at any line of the cache leaves it consistent, and every answer true."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

import mvolatile.cache
from mvolatile import VolatileCache
from mvolatile.cache import pressure
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, seal

ROOT = mvolatile.cache.__path__[0]


def _is_with(frame: FrameType) -> bool:
    """Leaving a block of a lock shows as its `with` line once more, with the lock held still. The interpreter looks
    for signals after the call that releases it, never between; so neither do we.
    """
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


@contextmanager
def interrupt_at(line: int) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt before the `line`-th line that the cache's code runs; the list says how many ran."""
    ran = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if not file.startswith(ROOT) or file.endswith("pressure.py") or name == "__del__":
            return None
        if (
            name == "catch_up"
            and frame.f_back is not None
            and frame.f_back.f_code.co_filename.endswith("pressure.py")
        ):
            return None  # a finalizer's, perhaps, which raises nothing
        if event == "line":
            ran[0] += 1
            if ran[0] >= line > 0 and not _is_with(frame):
                ran[0] = -(1 << 60)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield ran
    finally:
        sys.settrace(before)


def prepared() -> tuple[VolatileCache[Any, Any], dict[Any, Any]]:
    cache: VolatileCache[Any, Any] = VolatileCache(max_bytes=200_000, on_evict=lambda key, why: None)
    model: dict[Any, bytes] = {i: b"%d" % i * 50 for i in range(60)}
    cache.update(model)
    seal(cache)
    model["x"] = cache["x"] = b"old"
    return cache, model


def fill(cache: VolatileCache[Any, Any]) -> None:
    for i in range(1000, 1003):
        cache[i] = bytes(900)


def overflow(cache: VolatileCache[Any, Any]) -> None:
    for i in range(2000, 2100):
        cache[i] = bytes(2000)


OPERATIONS: dict[str, Callable[[VolatileCache[Any, Any]], Any]] = {
    "set": lambda cache: cache.set("x", b"new"),
    "set large": lambda cache: cache.set("x", b"new" * 30_000),
    "large in memory of large ones": lambda cache: [cache.set(key, b"new" * 30_000) for key in range(5)],
    "delete": lambda cache: cache.pop("x"),
    "fill": fill,
    "overflow": overflow,
    "make": lambda cache: cache.get_or_set("y", lambda: b"made"),
    "compact": lambda cache: cache.delete_many(range(40)),
    "clear": lambda cache: cache.clear(),
    "touch": lambda cache: (cache.touch("x", 1000), cache.touch(50, 1000)),
    "add": lambda cache: (cache.add("x", b"no"), cache.add("z", b"new")),
    "incr": lambda cache: cache.incr("x", b"", default=None),
    "info": lambda cache: cache.cache_info(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_at_any_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "listen", lambda cache: None)
    cache, _ = prepared()
    with interrupt_at(-1) as ran:
        OPERATIONS[name](cache)
    total = ran[0]
    assert total > 5
    step = max(1, total // 250)
    for line in range(1, total + 1, step):
        cache, model = prepared()
        with suppress(KeyboardInterrupt), interrupt_at(line):
            OPERATIONS[name](cache)
        for key, value in cache.items():
            if isinstance(key, int) and key >= 1000:
                assert value in (bytes(900), bytes(2000))
            else:
                assert value in (model.get(key), b"new", b"new" * 30_000, b"made"), (name, line)
        cache["after"] = b"after"
        assert cache["after"] == b"after"
        assert cache.get_or_set("y", lambda: b"made") == b"made"
        if name not in ("overflow", "clear"):
            assert all(cache.get(i) == model[i] for i in range(40, 60)), (name, line)
        is_valid(cache)
        assert engine_of(cache).store.nbytes <= 200_000
        cache.close()
