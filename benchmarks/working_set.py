"""What do memory monitors see of volatile memory?

In a memory cgroup of its own, a program fills 256 MiB and lets go of it, holds it again, meets reclaim while it
holds it, and loses it; after each step the figures that monitors read are taken.

python benchmarks/working_set.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from harness import HERE, MIB, Goal, finish

from mvolatile.kernel.cgroup import ChildCgroup

QUESTION = "What do memory monitors see of volatile memory?"
SIZE = 256 * MIB
LIMIT = 320 * MIB
PROGRAM = """
import json, os, sys
import mvolatile as mv
from mvolatile.kernel import files
from mvolatile.kernel.cgroup import memory_cgroup, memory_state
from mvolatile.kernel.smaps import rollup

size, scratch = int(sys.argv[1]), sys.argv[2]
cgroup = memory_cgroup()
rows = []

def look(state):
    seen, whole = memory_state(cgroup), rollup()
    stat = files.read_table(cgroup.path / "memory.stat")
    figures = {
        "RSS": whole.rss,
        "LazyFree": whole.lazy_free,
        "usage": seen.usage,
        "inactive_file": seen.inactive_file,
        "anon lists": stat["inactive_anon"] + stat["active_anon"],
        "working set": seen.working_set,
        "MemAvailable": files.read_table("/proc/meminfo")["MemAvailable"],
    }
    rows.append({"state": state, **{f"{name}, MiB": round(value / (1 << 20), 1) for name, value in figures.items()}})

look("before")
memory = mv.VolatileMemory(size)
with memory.pin(write=True) as view:
    for offset in range(0, size, 4096):
        view[offset] = 1
    look("written, held")
look("volatile")
with memory.pin():
    look("held again")
    with open(scratch, "wb") as file:  # page cache makes the cgroup meet its limit
        for _ in range(150):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    os.truncate(scratch, 0)
    look("held, after reclaim")
look("volatile again")
memory.purge()
look("purged")
print(json.dumps(rows))
"""


def main() -> int:
    with ChildCgroup(LIMIT) as cgroup, tempfile.NamedTemporaryFile(dir=HERE) as scratch:
        command = cgroup.wrap([sys.executable, "-c", PROGRAM, str(SIZE), scratch.name])
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout
        version = cgroup.version
    rows = json.loads(said)
    by_state = {row["state"]: row for row in rows}
    left_out = by_state["written, held"]["working set, MiB"] - by_state["volatile"]["working set, MiB"]
    goal = Goal("volatile memory that the working set leaves out", left_out / (SIZE / MIB), 0.99, True)
    return finish(__file__, QUESTION, rows, [goal], cgroup_version=version, limit_mib=LIMIT // MIB)


if __name__ == "__main__":
    sys.exit(main())
