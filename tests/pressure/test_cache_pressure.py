"""A real memory limit, and a neighbour in the same cgroup that takes and releases memory: nobody is killed, every
value is right, and the cache grows again when the neighbour lets go.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import mvolatile as mv
from support.cgroups import Limited

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not mv.features().can_purge, reason="nothing is purged here")


def beside_a_neighbour() -> None:
    import json
    import subprocess
    import sys
    import zlib

    import mvolatile as mv

    neighbour_code = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    taken = bytearray(int(line)); taken[::4096] = bytes(len(taken[::4096]))\n"
        "    print('taken', flush=True)\n"
    )
    neighbour = subprocess.Popen(
        [sys.executable, "-c", neighbour_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert neighbour.stdin is not None
    assert neighbour.stdout is not None

    cache = mv.VolatileCache(name="limited")
    sizes: list[Any] = []
    keys = 30_000
    hits = asked = 0

    def make(key: int) -> bytes:
        if key % 50 == 0:
            return b"%d." % key * 30_000
        return b"%d." % key * 1000

    for taken in (0, 120 << 20, 1, 120 << 20, 1):
        neighbour.stdin.write(f"{taken}\n")
        neighbour.stdin.flush()
        assert neighbour.stdout.readline() == "taken\n"
        for _ in range(10):
            for step in range(keys):
                key = step * 7919 % keys if step % 3 else step % 100
                value = cache.get(key)
                if value is None:
                    cache[key] = make(key)
                else:
                    hits += key < 100
                    assert zlib.crc32(value) == zlib.crc32(make(key)), key
                asked += key < 100
            resident = cache.cache_info().resident_bytes
            if taken != 1 or resident > 1.2 * sizes[-1]:
                break  # how fast it grows again depends on what the kernel takes meanwhile
        sizes.append(resident)
    info = cache.cache_info()
    neighbour.stdin.close()
    neighbour.wait()
    neighbour.stdout.close()
    print(json.dumps({"sizes": sizes, "hits": hits / asked, "purged": info.purged, "bytes": info.bytes}))


def test_beside_a_neighbour(run_limited: Callable[..., Limited]) -> None:
    done = run_limited(beside_a_neighbour, 256 * MIB)
    found = json.loads(done.check().stdout)
    assert done.oom_kills == 0
    alone, squeezed, again, squeezed_again, last = (size / MIB for size in found["sizes"])
    assert alone > 100
    assert squeezed < 256 - 120, "the limit leaves no more"
    assert squeezed_again < 256 - 120
    assert again > 1.2 * squeezed, "it grows again"
    assert last > 1.2 * squeezed_again
    assert found["hits"] > 0.8, "what is asked for all the time stays"
    assert found["purged"] > 0
