"""How much memory there is to be had: before the kernel would have to kill somebody."""

from __future__ import annotations

import os

from . import files
from .cgroup import MemoryCgroup, memory_cgroup, memory_state

__all__ = ["room"]

_found: tuple[int, MemoryCgroup | None] | None = None
"""Finding the cgroup costs more than reading it; a process that is moved later keeps the answer it had."""


def room() -> int | None:
    """Bytes this process may still take: what is free, and what the kernel can take back, volatile memory included.

    The smaller figure of the machine and this process's memory cgroup; None if neither can be read. An estimate that
    may be too large: memory that was volatile and is held again counts as free until the kernel has looked at it.
    """
    return min((bytes_ for bytes_ in (_of_machine(), _of_cgroup()) if bytes_ is not None), default=None)


def _of_machine() -> int | None:
    table = files.read_table("/proc/meminfo")
    available = table.get("MemAvailable")
    return None if available is None else available + table.get("SwapFree", 0)


def _of_cgroup() -> int | None:
    global _found
    if _found is None or _found[0] != os.getpid():
        _found = os.getpid(), memory_cgroup()
    cgroup = _found[1]
    if cgroup is None:
        return None
    state = memory_state(cgroup)
    if state.limit is None or state.usage is None:
        return None
    swap = 0 if state.swap_limit is None else max(0, state.swap_limit - (state.swap_usage or 0))
    return state.limit - max(0, state.usage - state.inactive_file - state.active_file) + swap
