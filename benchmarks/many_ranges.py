"""Does marking cost more the more memory is volatile already?

    python benchmarks/many_ranges.py [--seconds S]

With 100 to 100,000 live volatile memories of 64 KiB (a page of each written): one pin and unpin of each of the same
100 memories, spread evenly over all; and of as many as there are, in random order. The latter meets cold CPU
caches, in the kernel too: the bare system calls over the same addresses in the same order show how much of the
growth is theirs.
"""

from __future__ import annotations

import ctypes
import random
import sys
import time
from pathlib import Path
from typing import Any

from harness import Goal, compile_c, finish, need_userfaultfd, parser

import mvolatile as mv

COUNTS = (100, 1_000, 10_000, 100_000)
NBYTES = 64 << 10

c = compile_c("baseline.c")
c.bare_sweep.restype = ctypes.c_double
c.bare_sweep.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_size_t]


def grow(live: list[mv.VolatileMemory], count: int) -> float:
    """Seconds for each new memory: open, write a page, mark."""
    new = count - len(live)
    start = time.perf_counter()
    for _ in range(new):
        memory = mv.VolatileMemory(NBYTES)
        memory.write(b"\x5a" * 4096)
        live.append(memory)
    return (time.perf_counter() - start) / new


def sweep(memories: list[mv.VolatileMemory]) -> float:
    start = time.perf_counter()
    for memory in memories:
        with memory.pin():
            pass
    return (time.perf_counter() - start) / len(memories)


def measure(live: list[mv.VolatileMemory], count: int, seconds: float) -> dict[str, Any]:
    opened = grow(live, count)
    few = live[:: len(live) // 100][:100]
    shuffled = random.Random(1).sample(live, len(live))
    addresses = (ctypes.c_void_p * count)(*(memory.address for memory in shuffled))
    warm: list[float] = []
    cold: list[float] = []
    bare: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(cold) < 2:
        warm += [sweep(few) for _ in range(20)]
        cold.append(sweep(shuffled))
        bare.append(c.bare_sweep(addresses, count, NBYTES) / count)
    return {
        "live": count,
        "pin + unpin of 100, us": min(warm) * 1e6,
        "of all, shuffled, us": min(cold) * 1e6,
        "bare calls, shuffled, us": min(bare) * 1e6,
        "open + write + mark, us": opened * 1e6,
        "mappings": sum(1 for _ in Path("/proc/self/maps").open()),
    }


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0, help="for each count")
    seconds = arguments.parse_args().seconds
    need_userfaultfd()
    live: list[mv.VolatileMemory] = []
    rows = [measure(live, count, seconds) for count in COUNTS]
    start = time.perf_counter()
    while live:
        live.pop().close()
    closing = (time.perf_counter() - start) / COUNTS[-1]
    same = [row["pin + unpin of 100, us"] for row in rows]
    goals = [Goal("most to least, the same 100 memories", max(same) / min(same), 1.5, False)]
    return finish(
        __file__, "Does marking cost more the more is volatile?", rows, goals, seconds_to_close_one=closing
    )


if __name__ == "__main__":
    sys.exit(main())
