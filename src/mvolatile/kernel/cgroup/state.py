"""What holds in a memory cgroup now: limits, usage, and what the kernel did when they met."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from .locate import MemoryCgroup

__all__ = ["CgroupState", "memory_state", "oom_kills", "peak", "unclaimed_of", "usage"]

_V1_UNLIMITED = 1 << 62
"""Version 1 spells 'no limit' as the largest page count it can hold, in bytes: just below 2**63."""
_KERNELS_PART = 64
"""Version 1 does not say what of the kernel's own memory it can take back: what is beyond such a part of the limit."""


@dataclass(frozen=True, slots=True)
class CgroupState:
    """One reading of a memory cgroup; sizes in bytes, None for 'no limit' or 'the kernel does not say'.

    `limit`, `high` and `swap_limit` are effective: the smallest over the cgroup and its ancestors. Everything
    else is the cgroup's own. `working_set` is `usage` less `inactive_file`, as kubelet counts it (never below
    0); pages that are volatile and not yet purged count as `inactive_file`. `limit_hits` says how often the
    limit was met.
    """

    limit: int | None
    high: int | None
    usage: int | None
    inactive_file: int
    active_file: int
    swap_limit: int | None
    swap_usage: int | None
    limit_hits: int
    oom_kills: int

    @property
    def working_set(self) -> int | None:
        """What a container is judged by: usage that the kernel cannot simply take back."""
        return None if self.usage is None else max(0, self.usage - self.inactive_file)


def memory_state(cgroup: MemoryCgroup) -> CgroupState:
    """Read the cgroup's files; files that this kernel lacks give None or 0."""
    return _state_v1(cgroup) if cgroup.version == 1 else _state_v2(cgroup)


def usage(cgroup: MemoryCgroup) -> int | None:
    """Bytes charged now; None in version 2's root cgroup, which does not count."""
    return files.read_int(
        cgroup.path / ("memory.usage_in_bytes" if cgroup.version == 1 else "memory.current")
    )


def unclaimed_of(cgroup: MemoryCgroup) -> list[int]:
    """Of this cgroup and each around it that has a limit: the bytes below it that are not charged, or that are page
    cache or names of files that the kernel remembers, which grow into all that is left. Volatile memory is none of it.
    """
    unclaimed = _unclaimed_v1 if cgroup.version == 1 else _unclaimed_v2
    return [left for left in map(unclaimed, cgroup.lineage()) if left is not None]


def _unclaimed_v1(path: Path) -> int | None:
    limit, used = (
        _least(files.read_int(path / "memory.limit_in_bytes")),
        files.read_int(path / "memory.usage_in_bytes"),
    )
    if limit is None or used is None:
        return None
    stat = files.read_table(path / "memory.stat")
    kernels = (files.read_int(path / "memory.kmem.usage_in_bytes") or 0) - limit // _KERNELS_PART
    return limit - used + stat.get("total_cache", 0) - stat.get("total_shmem", 0) + max(0, kernels)


def _unclaimed_v2(path: Path) -> int | None:
    limit = _least(files.read_int(path / "memory.max"), files.read_int(path / "memory.high"))
    used = files.read_int(path / "memory.current")
    if limit is None or used is None:
        return None
    stat = files.read_table(path / "memory.stat")
    return limit - used + stat.get("file", 0) - stat.get("shmem", 0) + stat.get("slab_reclaimable", 0)


def peak(cgroup: MemoryCgroup) -> int | None:
    """The largest usage so far; None in version 2 before Linux 5.19."""
    return files.read_int(
        cgroup.path / ("memory.max_usage_in_bytes" if cgroup.version == 1 else "memory.peak")
    )


def oom_kills(cgroup: MemoryCgroup) -> int:
    """Processes the kernel killed for this cgroup's limit; version 2 counts those of its children too."""
    source = "memory.oom_control" if cgroup.version == 1 else "memory.events"
    return files.read_table(cgroup.path / source).get("oom_kill", 0)


def _smallest(cgroup: MemoryCgroup, name: str) -> int | None:
    limits = (files.read_int(directory / name) for directory in cgroup.lineage())
    return min((limit for limit in limits if limit is not None and limit < _V1_UNLIMITED), default=None)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None and limit < _V1_UNLIMITED), default=None)


def _state_v1(cgroup: MemoryCgroup) -> CgroupState:
    path: Path = cgroup.path
    stat = files.read_table(path / "memory.stat")
    # The hierarchical limits know of ancestors above the mount, the files below it of none.
    limit = _least(_smallest(cgroup, "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit"))
    both = _least(_smallest(cgroup, "memory.memsw.limit_in_bytes"), stat.get("hierarchical_memsw_limit"))
    return CgroupState(
        limit=limit,
        high=None,
        usage=usage(cgroup),
        inactive_file=stat.get("total_inactive_file", 0),
        active_file=stat.get("total_active_file", 0),
        swap_limit=None if both is None else max(0, both - (limit or 0)),
        swap_usage=stat.get("total_swap"),
        limit_hits=files.read_int(path / "memory.failcnt") or 0,
        oom_kills=oom_kills(cgroup),
    )


def _state_v2(cgroup: MemoryCgroup) -> CgroupState:
    stat = files.read_table(cgroup.path / "memory.stat")
    return CgroupState(
        limit=_smallest(cgroup, "memory.max"),
        high=_smallest(cgroup, "memory.high"),
        usage=usage(cgroup),
        inactive_file=stat.get("inactive_file", 0),
        active_file=stat.get("active_file", 0),
        swap_limit=_smallest(cgroup, "memory.swap.max"),
        swap_usage=files.read_int(cgroup.path / "memory.swap.current"),
        limit_hits=files.read_table(cgroup.path / "memory.events").get("max", 0),
        oom_kills=oom_kills(cgroup),
    )
