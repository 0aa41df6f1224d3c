"""Having the kernel reclaim another process's memory: its real path, at random places, as pressure would."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from random import Random

from .libc import MADV_PAGEOUT, PAGE, libc

__all__ = ["lazily_free", "reclaim"]

_PROCESS_MADVISE = 440  # on every architecture
libc.syscall.restype = ctypes.c_long


def lazily_free(pid: int) -> list[tuple[int, int]]:
    """Where a process has memory that the kernel may take: pairs of address and length."""
    found: list[tuple[int, int]] = []
    start = end = 0
    with suppress(OSError), open(f"/proc/{pid}/smaps", "rb") as smaps:
        for line in smaps:
            first = line.split(None, 1)[0]
            if b"-" in first and not first.endswith(b":"):
                start, end = (int(one, 16) for one in first.split(b"-"))
            elif first == b"LazyFree:" and not line.endswith(b" 0 kB\n"):
                found.append((start, end - start))
    return found


def reclaim(pid: int, random: Random) -> int:
    """Have some of what is lazily free in another process reclaimed; answers how many pages were asked for. 0 where
    this process may not (without CAP_SYS_NICE), and where there is nothing.
    """
    ranges = lazily_free(pid)
    if not ranges:
        return 0
    parts = []
    for address, length in random.sample(ranges, min(len(ranges), 3)):
        pages = length // PAGE
        first = random.randrange(pages)
        parts.append((address + first * PAGE, random.randint(1, pages - first) * PAGE))
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        packed = b"".join(struct.pack("@NN", *part) for part in parts)
        done: int = libc.syscall(
            ctypes.c_long(_PROCESS_MADVISE),
            ctypes.c_int(process),
            ctypes.c_char_p(packed),
            ctypes.c_size_t(len(parts)),
            ctypes.c_int(MADV_PAGEOUT),
            ctypes.c_uint(0),
        )
        return max(0, done) // PAGE
    finally:
        os.close(process)
