"""Child processes under a real memory limit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mvolatile.errors import UnsupportedError
from mvolatile.kernel.cgroup import ChildCgroup
from support.processes import LONGEST, Finished, run_python

__all__ = ["Limited", "run_limited", "why_not"]


@dataclass(frozen=True, slots=True)
class Limited(Finished):
    """How a child under a limit ended. `peak` is the cgroup's in bytes (None where the kernel keeps none)."""

    peak: int | None
    oom_kills: int


@functools.cache
def why_not() -> str | None:
    """Why no memory cgroup can be made here, or None if one can."""
    try:
        with ChildCgroup(64 << 20):
            return None
    except UnsupportedError as error:
        return str(error)


def run_limited(
    code: str | Callable[..., object],
    limit: int,
    *args: Any,
    swap: int = 0,
    env: Mapping[str, str] | None = None,
    timeout: float = LONGEST,
) -> Limited:
    """Run `code` (see `processes.command`) in a child cgroup of `limit` bytes and `swap` bytes of swap."""
    with ChildCgroup(limit, swap) as cgroup:
        done = run_python(code, *args, env=env, timeout=timeout, wrap=cgroup.wrap)
        return Limited(done.returncode, done.stdout, done.stderr, cgroup.peak(), cgroup.oom_kills())
