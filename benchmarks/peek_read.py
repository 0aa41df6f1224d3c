"""What do an empty peek and a small read cost, beside a `bytes` slice of a `bytearray`?

python benchmarks/peek_read.py [pyperf's options, such as --fast or --rigorous]
"""

from __future__ import annotations

import sys
from timeit import Timer

import pyperf
from harness import MIB, Goal, finish

import mvolatile as mv

STATEMENTS = {
    "bytes slice of a bytearray": "bytes(yardstick[0:100])",
    "bytes slice of its memoryview": "bytes(view[0:100])",
    "read(0, 100), 4 KiB": "small.read(0, 100)",
    "read(0, 100), 4 MiB": "large.read(0, 100)",
    "empty peek, 4 KiB": "with small.peek():\n pass",
    "empty peek, 4 MiB": "with large.peek():\n pass",
    "peek and a slice, 4 KiB": "with small.peek() as seen:\n bytes(seen[0:100])",
}


def written(nbytes: int) -> mv.VolatileMemory:
    memory = mv.VolatileMemory(nbytes)
    memory.write(b"\x5a" * nbytes)
    return memory


def main() -> int:
    runner = pyperf.Runner(processes=8, values=5, warmups=1)
    runner.parse_args()
    yardstick = bytearray(b"\x5a" * 4096)
    names = {
        "small": written(4096),
        "large": written(4 * MIB),
        "yardstick": yardstick,
        "view": memoryview(yardstick),
    }
    found = {
        name: runner.bench_time_func(name, Timer(statement, globals=names).timeit)
        for name, statement in STATEMENTS.items()
    }
    if None in found.values():  # one of pyperf's workers
        return 0
    least = {name: min(bench.get_values()) * 1e9 for name, bench in found.items()}
    rows = [
        {"what": name, "least, ns": least[name], "median, ns": bench.median() * 1e9}
        for name, bench in found.items()
    ]
    slice_ = min(least["bytes slice of a bytearray"], least["bytes slice of its memoryview"])
    read = max(least["read(0, 100), 4 KiB"], least["read(0, 100), 4 MiB"])
    goals = [
        Goal("empty peek", max(least["empty peek, 4 KiB"], least["empty peek, 4 MiB"]), 400, False, "ns"),
        Goal("read(0, 100)", read, 250, False, "ns"),
        Goal("read(0, 100) to the quicker bytes slice", read / slice_, 5, False),
    ]
    return finish(__file__, "What do an empty peek and a small read cost?", rows, goals)


if __name__ == "__main__":
    sys.exit(main())
