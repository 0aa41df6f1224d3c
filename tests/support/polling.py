"""A program that passes gigabytes through a cache under a limit, and who looks at its RSS each tenth of a second."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

from support.processes import command

__all__ = ["Looks", "poll_while_passing"]

LIMIT = 128 << 20
OWN = 12 << 20
"""What the program may take more of meanwhile: the value in its hands, index, counts; and what the kernel rounds."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How many there were, and how many saw RSS above the limit; the highest, in bytes above the program's own."""

    all: int
    above: int
    highest: int
    peak: int


def _pass(nbytes: int, limit: int) -> None:
    import random

    import mvolatile as mv
    from mvolatile.kernel import files

    source = random.Random(1)
    whole = bytes(3_000_000)
    cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
    mv.set_resident_limit(limit)
    for key in range(600):  # as much of each kind as there will be: then it has what it takes beside
        cache[-key] = whole[: source.choice((2_000, 50_000, 400_000, 3_000_000))]
    status = files.read_table("/proc/self/status")
    own = status["VmRSS"] - mv.memory_usage().volatile
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # the peak begins anew
    print(own, flush=True)
    passed, key = 0, 0
    while passed < nbytes:
        key += 1
        value = whole[: source.choice((2_000, 50_000, 400_000, 3_000_000))]
        cache[key] = value
        passed += len(value)
        old = cache.get(source.randrange(max(1, key - 300), key + 1))
        assert old is None or old[:1] == b"\0"
    print(files.read_table("/proc/self/status")["VmHWM"], flush=True)


def poll_while_passing(nbytes: int) -> Looks:
    """Run it to its end, and look meanwhile."""
    page = os.sysconf("SC_PAGE_SIZE")
    looks = above = highest = 0
    with subprocess.Popen(command(_pass, nbytes, LIMIT), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        own = int(process.stdout.readline())
        with open(f"/proc/{process.pid}/statm") as statm:
            while process.poll() is None:
                statm.seek(0)
                seen = int(statm.read().split()[1]) * page - own
                looks, above, highest = looks + 1, above + (seen > LIMIT + OWN), max(highest, seen)
                time.sleep(0.1)
        peak = int(process.stdout.read()) - own
    assert process.returncode == 0
    return Looks(looks, above, highest, peak)
