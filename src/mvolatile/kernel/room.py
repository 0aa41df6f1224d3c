"""How much memory there is to be had: before the kernel would have to kill somebody, or refuse to map more."""

from __future__ import annotations

import os
import resource

from . import files
from .cgroup import MemoryCgroup, memory_cgroup, memory_state
from .cgroup.state import unclaimed_of

__all__ = ["address_room", "limit", "room", "total", "unclaimed"]

MOST_LEFT_FREE, PART_LEFT_FREE = 256 << 20, 8
"""Of an eighth of its limit on addresses, and at most so many bytes, the cache leaves the program: a thread of its own
may want 72 MiB of them at once, for a stack and an arena of malloc.
"""
PART_KEPT_FREE = 64
"""Of all memory: below some 0.4 % the kernel begins to take back."""
_STRICT = 2  # vm.overcommit_memory

_found: tuple[int, MemoryCgroup | None] | None = None
"""Finding the cgroup costs more than reading it; a process that is moved later keeps the answer it had."""


def room() -> int | None:
    """Bytes this process may still take: what is free, and what the kernel can take back, volatile memory included.

    The smaller figure of the machine and this process's memory cgroup; None if neither can be read. An estimate that
    may be too large: memory that was volatile and is held again counts as free until the kernel has looked at it.
    """
    return min((bytes_ for bytes_ in (_of_machine(), _of_cgroup()) if bytes_ is not None), default=None)


def unclaimed() -> int | None:
    """Bytes that are nobody's, or only page cache and the like: so much can be taken before the kernel takes volatile
    memory back, unless it thinks more of the page cache. The smallest of what the machine has, less what the kernel
    keeps free, and of what each memory cgroup around this process has below its limit. None if nothing can be read.
    """
    table = files.read_table("/proc/meminfo")
    left = []
    if "MemFree" in table and "Cached" in table:
        cached = (
            table["Cached"] + table.get("Buffers", 0) - table.get("Shmem", 0) + table.get("SReclaimable", 0)
        )
        left.append(table["MemFree"] + cached - table.get("MemTotal", 0) // PART_KEPT_FREE)
    cgroup = _own_cgroup()
    if cgroup is not None:
        left += unclaimed_of(cgroup)
    return max(0, min(left)) if left else None


def total() -> int:
    """Bytes of memory that this process may have in all: the machine's, or its memory cgroup's limit; 0 if unknown."""
    of_machine = files.read_table("/proc/meminfo").get("MemTotal", 0)
    cgroup = _own_cgroup()
    limit = None if cgroup is None else memory_state(cgroup).limit
    return of_machine if limit is None else min(limit, of_machine)


def _of_machine() -> int | None:
    table = files.read_table("/proc/meminfo")
    available = table.get("MemAvailable")
    return None if available is None else available + table.get("SwapFree", 0)


def _own_cgroup() -> MemoryCgroup | None:
    global _found
    if _found is None or _found[0] != os.getpid():
        _found = os.getpid(), memory_cgroup()
    return _found[1]


def _of_cgroup() -> int | None:
    cgroup = _own_cgroup()
    if cgroup is None:
        return None
    state = memory_state(cgroup)
    if state.limit is None or state.usage is None:
        return None
    swap = 0 if state.swap_limit is None else max(0, state.swap_limit - (state.swap_usage or 0))
    return state.limit - max(0, state.usage - state.inactive_file - state.active_file) + swap


_strict: bool | None = None
"""Whether the machine promises no more than it has; asked again when something was refused."""


def address_room(*, anew: bool = False) -> int | None:
    """Bytes of address space that a cache may still take: what RLIMIT_AS, RLIMIT_DATA and strict overcommit leave, less
    what the program should have. Less than nothing where it has that already; None where nothing bounds it.

    Without a limit it costs two system calls, with one a small file of /proc. `anew`: something was refused, so ask
    whether the machine's mode is another now.
    """
    global _strict
    if _strict is None or anew:
        _strict = files.read_int("/proc/sys/vm/overcommit_memory") == _STRICT
    of_all, of_data = limit(resource.RLIMIT_AS), limit(resource.RLIMIT_DATA)
    left = []
    if of_all is not None or of_data is not None:
        pages = (files.read("/proc/self/statm") or "").split()
        for bound, field in ((of_all, 0), (of_data, 5)):
            if bound is not None and len(pages) > field:
                left.append(_but_the_programs(bound, int(pages[field]) * resource.getpagesize()))
    if _strict:
        table = files.read_table("/proc/meminfo")
        if "CommitLimit" in table:
            left.append(_but_the_programs(table["CommitLimit"], table["Committed_AS"]))
    return min(left, default=None)


def _but_the_programs(bound: int, taken: int) -> int:
    return bound - taken - min(bound // PART_LEFT_FREE, MOST_LEFT_FREE)


def limit(which: int) -> int | None:
    """This process's soft limit (`resource.RLIMIT_AS`); None if there is none, or a sandbox refuses to tell."""
    try:
        found = resource.getrlimit(which)[0]
    except OSError:
        return None
    return None if found == resource.RLIM_INFINITY else found
