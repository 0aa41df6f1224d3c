"""Does rebuild pressure rise before throughput falls?

    python benchmarks/rebuild_pressure.py [--json FILE] [--quick]

A child process asks a `VolatileCache`, with nothing set, for keys of a fixed working set, which Zipf's law chooses; a
value is made in 1 ms of processor time, and each request does 0.2 ms of work of its own. Its cgroup's limit is lowered
step by step, from 4 times to a tenth of the working set. At each step: requests a second, hits, and rebuild pressure,
as the rate of its total. Exits with 1 unless pressure passes 0.1 at a step at which throughput is still above half of
the best.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from harness import MIB, keep

from mvolatile import VolatileCache
from mvolatile.kernel.cgroup import ChildCgroup, memory_cgroup

VALUE = 64 << 10
KEYS = 1024
WORKING_SET = VALUE * KEYS
OWN = 40 * MIB
"""What the process has beside, about."""
SHARES = (4, 2, 1, 0.7, 0.5, 0.3, 0.2, 0.1)
MAKING, WORK = 0.001, 0.0002


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def make(key: int) -> bytes:
    busy(MAKING)
    return key.to_bytes(4, "little") * (VALUE // 4)


def child(seconds: float) -> None:
    """One line of JSON a step; a line on standard input, with the share, begins each."""
    from mvolatile.metrics import figures

    generator = random.Random(1)
    stream = generator.choices(range(KEYS), [1 / (key + 10) for key in range(KEYS)], k=50_000)
    with VolatileCache[int, bytes](name="watched") as cache:
        at, rebuilt, lost, evicted = 0, 0.0, 0, 0
        for line in sys.stdin:
            before, begun, start = cache.cache_info(), time.monotonic(), at
            while time.monotonic() < begun + seconds:
                key = stream[at % len(stream)]
                value = cache.get_or_set(key, lambda key=key: make(key))  # type: ignore[misc]
                assert value[:4] == key.to_bytes(4, "little")
                busy(WORK)
                at += 1
            (told,) = figures()
            took = time.monotonic() - begun
            row = {
                "limit / working set": float(line),
                "requests/s": (at - start) / took,
                "lost": told.lost - lost,
                "evicted": told.evicted - evicted,
                "hits": (told.hits - before.hits) / (at - start),
                "rebuild pressure": (told.rebuild_seconds - rebuilt) / took,
            }
            rebuilt, lost, evicted = told.rebuild_seconds, told.lost, told.evicted
            print(json.dumps(row), flush=True)


def set_limit(cgroup: ChildCgroup, nbytes: int) -> None:
    name = "memory.limit_in_bytes" if cgroup.cgroup.version == 1 else "memory.max"
    (cgroup.path / name).write_text(str(nbytes))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    parser.add_argument("--quick", action="store_true", help="2 seconds a step, not 20")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return 0
    if memory_cgroup() is None:
        print("no memory cgroup can be made here")
        return 1
    begun, seconds, rows = time.monotonic(), 2.0 if arguments.quick else 20.0, []
    with ChildCgroup(OWN + int(SHARES[0] * WORKING_SET)) as cgroup:
        with subprocess.Popen(
            cgroup.wrap([sys.executable, __file__, "--child", str(seconds)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for share in SHARES:
                set_limit(cgroup, OWN + int(share * WORKING_SET))
                process.stdin.write(f"{share}\n")
                process.stdin.flush()
                rows.append(json.loads(process.stdout.readline()))
                print("  ".join(f"{what} {value:8.2f}" for what, value in rows[-1].items()), flush=True)
            process.stdin.close()
        kills = cgroup.oom_kills()
    passed = next((row for row in rows[1:] if row["rebuild pressure"] > 0.1), None)
    first = max(row["requests/s"] for row in rows)
    met = passed is not None and passed["requests/s"] > first / 2 and not kills
    print(
        f"{'met   ' if met else 'MISSED'}  pressure above 0.1 while throughput is above half; killed: {kills}"
    )
    if arguments.json:
        keep(arguments.json, __file__, time.monotonic() - begun, rows=rows, met=met)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
