"""Finding the directory of a process's memory cgroup.

``/proc/PID/cgroup`` gives a path inside a hierarchy, ``/proc/self/mountinfo`` where which part of that
hierarchy is mounted. The two agree on a host and in a container with a cgroup namespace. Without the
namespace (Docker with cgroup v1) the path is the host's, and the container's mount shows only what is below
it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from .. import files

__all__ = ["MemoryCgroup", "memory_cgroup"]


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """The memory cgroup of one process: `version` 1 or 2, its directory `path`, and the `mount` it lies
    below.
    """

    version: Literal[1, 2]
    path: Path
    mount: Path

    def lineage(self) -> tuple[Path, ...]:
        """This directory and its ancestors up to the mount; what lies above cannot be seen from here."""
        above = self.path.relative_to(self.mount).parts
        return (self.path, *list(self.path.parents)[: len(above)])


@dataclass(frozen=True, slots=True)
class _Mount:
    root: str
    point: str
    kind: str
    options: frozenset[str]


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        if separator:
            _, _, _, root, point, *_ = left.split()
            kind, _, options = right.split()[:3]
            yield _Mount(_unescape(root), _unescape(point), kind, frozenset(options.split(",")))


def _membership(proc_cgroup: str) -> tuple[Literal[1, 2], str] | None:
    """Version and path of the hierarchy that has the memory controller.

    In the hybrid layout both are there: the line ``0::`` of version 2, without controllers, and version 1's
    own.
    """
    unified = None
    for line in proc_cgroup.splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return 1, path
        if hierarchy == "0":
            unified = path
    return None if unified is None else (2, unified)


def _below(path: str, root: str) -> PurePosixPath | None:
    try:
        return PurePosixPath(path).relative_to(root)
    except ValueError:
        return None


def _candidates(path: str, root: str) -> Iterator[tuple[PurePosixPath, bool]]:
    """Where below the mount the cgroup may be, best first, and whether the process must be seen there to
    believe it.

    A ``..`` says that the process or the mount lies outside our cgroup namespace: names up there are hidden.
    """
    if ".." in PurePosixPath(path).parts or ".." in PurePosixPath(root).parts:
        return
    below = _below(path, root)
    if below is not None:
        yield below, False
    parts = PurePosixPath(path).parts[1:]
    for start in range(1, max(len(parts), 1) + 1):
        yield PurePosixPath(*parts[start:]), True


def _charged(cgroup: MemoryCgroup) -> MemoryCgroup:
    """The cgroup that pays: version 2 charges the nearest ancestor that has the controller switched on."""
    if cgroup.version == 1:
        return cgroup
    paying = (directory for directory in cgroup.lineage() if (directory / "memory.current").exists())
    return replace(cgroup, path=next(paying, cgroup.mount))


def memory_cgroup(pid: int | None = None, *, root: str | os.PathLike[str] = "/") -> MemoryCgroup | None:
    """The memory cgroup of process `pid` (this one by default), or None if there is none or it cannot be
    seen.

    `root` is the directory under which ``proc`` and the mounts are looked for.
    """
    top = Path(root)
    proc = top / "proc"
    member = _membership(files.read(proc / ("self" if pid is None else str(pid)) / "cgroup") or "")
    if member is None:
        return None
    version, path = member
    wanted = str(os.getpid() if pid is None else pid)
    mounts = [
        mount
        for mount in _mounts(files.read(proc / "self/mountinfo") or "")
        if mount.kind == ("cgroup" if version == 1 else "cgroup2")
        and (version == 2 or "memory" in mount.options)
    ]
    # The deepest root that holds us shows the names nearest to ours; of equals the later mount hides the
    # earlier.
    mounts.sort(key=lambda mount: (_below(path, mount.root) is not None, len(mount.root)))
    for mount in reversed(mounts):
        point = top / mount.point.lstrip("/")
        if version == 2 and "memory" not in (files.read(point / "cgroup.controllers") or "").split():
            continue
        for below, must_be_seen in _candidates(path, mount.root):
            directory = point / below
            members = files.read(directory / "cgroup.procs")
            if members is not None and (not must_be_seen or wanted in members.split()):
                return _charged(MemoryCgroup(version, directory, point))
    return None
