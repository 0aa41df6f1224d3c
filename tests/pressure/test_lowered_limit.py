"""A container's limit lowered to half while a cache is filled and read: it is accepted, and nobody is killed."""

from __future__ import annotations

import subprocess
import time

import pytest

from mvolatile import _core
from mvolatile.kernel.cgroup import ChildCgroup
from support.cgroups import why_not
from support.processes import LONGEST, command

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here"),
]


def work(share: str | None) -> None:
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
        if key == 1000:
            print("full", flush=True)
    print(key, flush=True)


@pytest.mark.parametrize("share", [None, "60%"])
def test_it_is_accepted_and_nobody_is_killed(share: str | None) -> None:
    with ChildCgroup(192 << 20) as cgroup:
        argv = cgroup.wrap(command(work, share))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "full\n"
            began = time.monotonic()
            cgroup.set_limit(96 << 20)  # version 1: EBUSY where reclaim cannot keep up; version 2: a kill
            print(f"accepted after {time.monotonic() - began:.2f} s")
            assert cgroup.usage() <= 96 << 20
            said, _ = process.communicate("\n", LONGEST)
        assert process.returncode == 0
        assert int(said) > 1000
        assert cgroup.oom_kills() == 0
