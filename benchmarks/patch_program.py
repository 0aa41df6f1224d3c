"""The patch family's own program: is volatile memory faster than giving memory back and taking it again?

    python benchmarks/patch_program.py [--threads N] [--rounds R] [--repeat K]

From the cover letter of "[RFC v4 0/3] Support volatile for anonymous range" (Minchan Kim, 18 December 2012):
N pinned threads, each with 80 MB in steps of 8 MB, for 100 rounds; either unmark, memset, mark, or memset,
MADV_DONTNEED. The figures then: 33.10 s against 6.04 s (8 cores, KVM) and 5.80 s against 2.87 s (12 cores), base
pages. One thread a CPU here, memset without the interpreter lock, a fresh process for each run.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from harness import Goal, compile_c, finish, parser

import mvolatile as mv

STEP, STEPS = 8 << 20, 10
THEN = {"8 cores, KVM": 33.10 / 6.04, "12 cores": 5.80 / 2.87}
WAYS = ("volatile base", "volatile huge", "DONTNEED base", "DONTNEED huge")


def volatile(huge: bool) -> Callable[[], None]:
    memories = [mv.VolatileMemory(STEP, huge=huge) for _ in range(STEPS)]
    fill = ctypes.memset

    def round_() -> None:
        for memory in memories:
            with memory.pin(write=True, on_purge="zero"):
                fill(memory.address, 0x5A, STEP)

    return round_


def dontneed(huge: bool) -> Callable[[], None]:
    c = compile_c("baseline.c")
    c.area_open.restype = ctypes.c_void_p
    c.area_open.argtypes = [ctypes.c_size_t, ctypes.c_int]
    c.area_discard.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    base, fill, discard = c.area_open(STEP * STEPS, huge), ctypes.memset, c.area_discard

    def round_() -> None:
        for address in range(base, base + STEP * STEPS, STEP):
            fill(address, 0x5A, STEP)
            discard(address, STEP)

    return round_


def run(way: str, threads: int, rounds: int) -> dict[str, float]:
    """One run, in this process."""
    cpus = sorted(os.sched_getaffinity(0))
    start_line = threading.Barrier(threads + 1)

    def work(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        kind, _, pages = way.partition(" ")
        round_ = (volatile if kind == "volatile" else dontneed)(pages == "huge")
        round_()
        start_line.wait()
        for _ in range(rounds):
            round_()

    workers = [threading.Thread(target=work, args=(cpus[i % len(cpus)],)) for i in range(threads)]
    for worker in workers:
        worker.start()
    start_line.wait()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for worker in workers:
        worker.join()
    after, end = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    return {
        "elapsed, s": end - start,
        "user, s": after.ru_utime - before.ru_utime,
        "system, s": after.ru_stime - before.ru_stime,
        "minor faults": after.ru_minflt - before.ru_minflt,
        "max RSS, MiB": after.ru_maxrss >> 10,
    }


def fresh(way: str, threads: int, rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--threads", str(threads), "--rounds", str(rounds)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--rounds", type=int, default=100)
    arguments.add_argument(
        "--repeat", type=int, default=2, help="runs of each way, in turns; the fastest counts"
    )
    arguments.add_argument("--way", choices=WAYS, help="one run of one way; prints JSON")
    chosen = arguments.parse_args()
    if chosen.way:
        print(json.dumps(run(chosen.way, chosen.threads, chosen.rounds)))
        return 0
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(chosen.repeat):
        for way in WAYS:
            runs[way].append(fresh(way, chosen.threads, chosen.rounds))
    best = {way: min(found, key=lambda one: one["elapsed, s"]) for way, found in runs.items()}
    rows: list[dict[str, Any]] = [{"way": way, **best[way]} for way in WAYS]
    for row, way in zip(rows, WAYS, strict=True):
        row["median elapsed, s"] = statistics.median(one["elapsed, s"] for one in runs[way])
    base, huge = (
        best[f"DONTNEED {pages}"]["elapsed, s"] / best[f"volatile {pages}"]["elapsed, s"]
        for pages in ("base", "huge")
    )
    goals = [Goal("MADV_DONTNEED to volatile, both on base pages", base, 1, True)]
    ratios = {"base pages": base, "huge pages": huge} | {
        f"2012, {where}": then for where, then in THEN.items()
    }
    print(f"elapsed, MADV_DONTNEED to volatile; huge pages are our default here; {chosen.threads} threads")
    for what, ratio in ratios.items():
        print(f"{ratio:8.2f} x  {what}")
    print()
    return finish(
        __file__,
        "Is volatile memory faster than MADV_DONTNEED and faulting in again?",
        rows,
        goals,
        threads=chosen.threads,
        rounds=chosen.rounds,
        ratios=ratios,
    )


if __name__ == "__main__":
    sys.exit(main())
