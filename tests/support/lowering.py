"""A program that fills a cache and reads it under a cgroup's limit, which is lowered to half meanwhile."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from mvolatile.kernel.cgroup import ChildCgroup
from support.processes import LONGEST, command

__all__ = ["Lowered", "lower_to_half"]

LIMIT = 192 << 20
FULL = 1000


@dataclass(frozen=True, slots=True)
class Lowered:
    """How long the kernel took to accept it; usage and limit then; values stored in all; processes killed."""

    seconds: float
    usage: int
    limit: int
    stored: int
    killed: int


def _fill_and_read(share: str | None, full: int) -> None:
    """Until it is told to end."""
    import select
    import sys

    import mvolatile as mv

    if share:
        mv.set_resident_limit(share)
    cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
    key = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        key += 1
        cache[key] = bytes([key % 256]) * 300_000
        old = key - key % 97
        value = cache.get(old)
        assert value is None or value == bytes([old % 256]) * 300_000
        if key == full:
            print("full", flush=True)
    print(key, flush=True)


def lower_to_half(
    share: str | None = None, before: Callable[[ChildCgroup, int], object] | None = None
) -> Lowered:
    """`share`: what the program sets as its limit on RSS. `before` is called first, with the limit that is to be.

    `OSError` where the kernel refuses: version 1 does (EBUSY), where reclaim cannot keep up; version 2 kills.
    """
    limit = LIMIT // 2
    with ChildCgroup(LIMIT) as cgroup:
        argv = cgroup.wrap(command(_fill_and_read, share, FULL))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "full\n"
                if before is not None:
                    before(cgroup, limit)
                began = time.perf_counter()
                cgroup.set_limit(limit)
                seconds, usage = time.perf_counter() - began, cgroup.usage()
            finally:
                said, _ = process.communicate("\n", LONGEST)
        assert process.returncode == 0
        return Lowered(seconds, usage, limit, int(said), cgroup.oom_kills())
