"""Memories with known bytes, and losing them for certain."""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Iterable
from typing import Any

import pytest

from mvolatile import VolatileMemory, _core, testing

__all__ = ["HUGE", "LAYOUTS", "PAGE", "every_layout", "filled", "lose", "page_out", "pattern"]

PAGE, HUGE = _core.sizes()[0], 2 << 20

LAYOUTS: dict[str, dict[str, Any]] = {
    "pooled": {"nbytes": 9 * PAGE},
    "ragged": {"nbytes": 9 * PAGE - 100},
    "base": {"nbytes": HUGE + 5 * PAGE, "huge": False},
    "huge": {"nbytes": 2 * HUGE},
}
"""A slot of an arena; one whose size is no multiple of a page; a mapping on base pages; one on huge pages."""

every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def pattern(nbytes: int, seed: int = 0) -> bytes:
    """Bytes that are zero nowhere and differ from page to page."""
    source = random.Random(seed)
    return b"".join(bytes([source.randrange(1, 256)]) * PAGE for _ in range(-(-nbytes // PAGE)))[:nbytes]


def filled(layout: str | int, *, seed: int = 0, **options: Any) -> VolatileMemory:
    """A memory (a name of `LAYOUTS`, or a size) that holds `pattern` and is volatile."""
    wanted = dict(LAYOUTS[layout]) if isinstance(layout, str) else {"nbytes": layout}
    memory = VolatileMemory(**wanted | options)
    memory.write(pattern(memory.nbytes, seed))
    return memory


def lose(memory: VolatileMemory, extents: Iterable[tuple[int, int]] | None = None) -> None:
    """Have exactly the pages under `extents` (default: all), which must hold data, purged."""
    for offset, length in ((0, memory.nbytes),) if extents is None else extents:
        first, last = offset // PAGE, -(-(offset + length) // PAGE)
        wanted, gone = (last - first) * PAGE, 0
        for _ in range(20):
            gone += testing.purge(memory, [(offset, length)])
            if gone == wanted:
                break
        assert gone == wanted, f"of {wanted} bytes the kernel reclaimed {gone}"


_libc = ctypes.CDLL(None, use_errno=True)


def page_out(address: int, length: int) -> None:
    """``madvise(MADV_PAGEOUT)``: reclaim, past the library, which refuses what is pinned."""
    if _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), 21):
        code = ctypes.get_errno()
        raise OSError(code, f"madvise: {os.strerror(code)}")
