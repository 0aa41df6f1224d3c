"""A program that uses all of the library inside a restriction, and judges it with nothing but its own bytes.

It needs neither /proc nor the pagemap: every page was filled with its own number, so a page that holds something else
was lost, and must be among the extents that the library reports.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import mmap
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["exercise", "main"]

PAGE = mmap.PAGESIZE
LOST = (1, 2, 5)
SIZES = {"pooled": 9 * PAGE, "base": (2 << 20) + 5 * PAGE, "huge": 4 << 20}


def _page(number: int) -> bytes:
    return (number + 1).to_bytes(4, "little") * (PAGE // 4)


def _pages_of(extents: tuple[tuple[int, int], ...]) -> set[int]:
    return {page for start, length in extents for page in range(start // PAGE, -(-(start + length) // PAGE))}


def _one_memory(layout: str) -> dict[str, Any]:
    """Fill, lose three pages, ask, rebuild."""
    import mvolatile
    from mvolatile import testing

    nbytes = SIZES[layout]
    pages = nbytes // PAGE
    data = b"".join(map(_page, range(pages)))
    with mvolatile.VolatileMemory(nbytes, layout, huge=layout == "huge") as memory:
        memory.write(data)
        whole = memory.read(0) == data
        for _ in range(5):
            testing.purge(memory, [(page * PAGE, PAGE) for page in LOST])
        told: set[int] = set()
        try:
            with memory.pin():
                pass
        except mvolatile.Purged as lost:
            told = _pages_of(lost.extents)
        with memory.pin(on_purge="zero") as view:
            changed = {page for page in range(pages) if view[page * PAGE : (page + 1) * PAGE] != _page(page)}
        memory.write(data)
        with memory.peek() as view:
            rebuilt = bytes(view) == data
        return {"whole": whole, "rebuilt": rebuilt, "told": sorted(told), "untold": sorted(changed - told)}


def _raw_call() -> dict[str, Any]:
    """The call of the patch on memory of our own."""
    import mvolatile

    area = mmap.mmap(-1, 8 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:] = b"r" * len(area)
    hold = ctypes.c_char.from_buffer(area)
    address = ctypes.addressof(hold)
    marked = mvolatile.mvolatile(address, len(area), mvolatile.MVOLATILE_VOLATILE)
    unmarked = mvolatile.mvolatile(address, len(area), mvolatile.MVOLATILE_NONVOLATILE)
    whole = area[:] == b"r" * len(area)
    del hold
    area.close()
    return {"marked": marked[0], "unmarked": unmarked[0], "told": bool(unmarked[1]), "whole": whole}


def _cache() -> dict[str, Any]:
    """Small values, a large one, an array that is held: what a cache gives is whole or a miss."""
    import mvolatile

    values: dict[Any, bytes] = {number: _page(number)[:700] for number in range(200)}
    values["large"] = b"".join(map(_page, range(80)))
    with mvolatile.VolatileCache[Any, Any]() as cache:
        for key, value in values.items():
            cache[key] = value
        found = {key: cache.get(key) for key in values}
        info = cache.cache_info()
    whole = all(value is None or value == values[key] for key, value in found.items())
    return {"whole": whole, "hits": info.hits, "resident": info.resident_bytes, "purged": info.purged}


def _array() -> dict[str, Any]:
    """NumPy is not to be had everywhere; its dtype is a plain one."""
    import numpy as np

    import mvolatile

    values = np.arange(40_000, dtype=np.int64)
    array = mvolatile.array(values)
    try:
        with array.pin() as view:
            whole = bool((view == values).all())
            del view
    except mvolatile.Purged:
        whole = True  # and told
    array.close()
    return {"whole": whole}


def _fork() -> dict[str, Any]:
    """Parent and child each find the bytes or are told of a loss, whoever loses them first."""
    import mvolatile

    data = b"".join(map(_page, range(64)))
    with mvolatile.VolatileMemory(len(data), "forked") as memory:
        memory.write(data)

        def whole() -> bool:
            try:
                return memory.read(0) == data
            except mvolatile.Purged:
                return True

        pid = os.fork()
        if pid == 0:
            good = False
            try:
                good = whole()
                memory.write(data)
                good = good and memory.read(0) == data
            finally:
                os._exit(0 if good else 1)
        child = os.waitpid(pid, 0)[1] == 0
        return {"whole": whole() and child}


def _guarded(part: Callable[[], object]) -> object:
    """Its result; or, for an exception, what it says to the user."""
    try:
        return part()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def exercise() -> dict[str, Any]:
    """Everything, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import mvolatile

        found = mvolatile.features()
        told: dict[str, Any] = {"tier": found.tier, "reason": found.reason, "can_purge": found.can_purge}
        for layout in SIZES:
            told[layout] = _guarded(lambda layout=layout: _one_memory(layout))  # type: ignore[misc]
        told["raw"] = _guarded(_raw_call)
        told["cache"] = _guarded(_cache)
        if importlib.util.find_spec("numpy"):
            told["array"] = _guarded(_array)
        told["fork"] = _guarded(_fork)
        with mvolatile.VolatileMemory(PAGE, "told of") as memory:
            memory.write(b"x")
            told["status"] = _guarded(lambda: {"resident": mvolatile.status().resident})
    told["warnings"] = sorted({f"{one.category.__name__}: {one.message}" for one in caught})
    return told


def main() -> None:
    """One line of JSON."""
    json.dump(exercise(), sys.stdout)


if __name__ == "__main__":
    main()
