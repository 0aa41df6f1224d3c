"""What the kernel counts of a cgroup, read when it has been counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from mvolatile.kernel.cgroup import memory_cgroup

__all__ = ["inactive_file"]

PATIENCE = 10.0
"""Seconds. The kernel sums up what each CPU has counted when it is much, and else every two seconds."""


def inactive_file(until: Callable[[int], bool] = lambda nbytes: True) -> int:
    """`inactive_file` of this process's own cgroup in bytes; asked again, for `PATIENCE`, until it is as expected."""
    own = memory_cgroup()
    assert own is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        lines = (own.path / "memory.stat").read_text().splitlines()
        nbytes = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        if until(nbytes) or time.monotonic() > deadline:
            return nbytes
        time.sleep(0.05)
