"""Volatile memory of running processes, given back from outside, by the kernel's own reclaim.

A process is told nothing and stopped by nothing: what goes is what the kernel might have taken at any moment. Of its
own memory nothing goes, nor to a swap. Where nothing can be swapped, reclaim leaves whatever is not volatile alone.
Where there is a swap, it would take what it is shown; so it is shown only mappings of which all that is there is
lazily freed, and what lies among memory that is held stays.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import _core
from . import files, smaps
from .cgroup import MemoryCgroup, memory_cgroup, memory_state

__all__ = ["Trimmed", "cgroup_processes", "cgroup_usage", "rss_of", "trim_process", "why_refused"]

STEP = 16 << 20
"""Bytes between two looks whether it is enough."""
UNCOUNTED = 32 * 4096
"""The kernel counts lazily freed pages in batches, so that some of a mapping that is volatile as a whole are not among
them yet; of each processor, and more would be a guess.
"""
_CAPABILITIES = {"CAP_SYS_NICE": 23, "CAP_SYS_PTRACE": 19}
_EVERYBODY = ["0", "0", "4294967295"]
"""How the first user namespace has its users."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What became of one process; bytes. `mixed`: lazily freed, but among memory that is not, and there is a swap."""

    pid: int
    before: int
    after: int
    mixed: int


def rss_of(pid: int) -> int:
    """Bytes in RAM; `ProcessLookupError`."""
    fields = (files.read(f"/proc/{pid}/statm") or "").split()
    if len(fields) < 2:
        raise ProcessLookupError(errno.ESRCH, f"no process {pid} (any more)")
    return int(fields[1]) * _core.sizes()[0]


def trim_process(pid: int, enough: Callable[[], bool], told: Callable[[int], object] = bool) -> Trimmed:
    """Take volatile memory of `pid` until `enough()` or there is none; `told` hears the RSS after each step.

    `ProcessLookupError`; `PermissionError` naming the right that is missing.
    """
    before = rss_of(pid)
    if enough():
        return Trimmed(pid, before, before, 0)
    mixed = 0
    process = _opened(pid)
    try:
        for mapping in sorted(_volatile(pid), key=lambda one: -one.lazy_free):
            if enough():
                break
            if _may_swap(pid) and mapping.lazy_free + UNCOUNTED < mapping.rss:
                mixed += mapping.lazy_free
                continue
            for start in range(mapping.start, mapping.end, STEP):
                if enough():
                    break
                _take(process, pid, start, min(STEP, mapping.end - start))
                told(rss_of(pid))
    finally:
        os.close(process)
    return Trimmed(pid, before, rss_of(pid), mixed)


def _opened(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise ProcessLookupError(errno.ESRCH, f"no process {pid} (any more)") from None


def _volatile(pid: int) -> list[smaps.Mapping]:
    try:
        found = smaps.mappings(pid)
    except PermissionError:
        raise PermissionError(errno.EACCES, _not_to_be_read(pid)) from None
    return [mapping for mapping in smaps.of_ours(found) if mapping.lazy_free]


def _take(process: int, pid: int, start: int, nbytes: int) -> None:
    try:
        _core.pageout_of(process, start, nbytes)
    except PermissionError:
        raise PermissionError(errno.EPERM, why_refused(pid)) from None
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise OSError(errno.ENOSYS, "process_madvise(2) is not there: it needs Linux 5.10") from None
        if error.errno not in (errno.ENOMEM, errno.EINVAL):  # unmapped, or locked, meanwhile
            raise


def why_refused(pid: int) -> str:
    """Which right this process lacks to give back memory of `pid`, which it may look into."""
    lacking, what = _lacking(), f"giving back memory of process {pid}"
    if "CAP_SYS_NICE" in lacking:
        # Docker's seccomp profile allows the call to who has CAP_SYS_PTRACE; the kernel wants the other for it.
        wanted = lacking if _is_filtered() else ["CAP_SYS_NICE"]
        return f"{what} takes the capability CAP_SYS_NICE, which this process lacks {_where_to_get(wanted)}"
    if _is_namespaced():
        return (
            f"{what} takes CAP_SYS_NICE of the host's own users, not of a user namespace {_where_to_get([])}"
        )
    if lacking and _is_filtered():
        return f"{what} takes CAP_SYS_PTRACE under this container's seccomp profile {_where_to_get(lacking)}"
    return f"the kernel refuses {what}: a seccomp filter without process_madvise, or a security module"


def _not_to_be_read(pid: int) -> str:
    lacking = _lacking()
    if not lacking and not _is_namespaced():
        return f"process {pid} may not be looked into, though this process has CAP_SYS_PTRACE: by a security module"
    more = " (and to give its memory back CAP_SYS_NICE)" if "CAP_SYS_NICE" in lacking else ""
    return (
        f"process {pid} may not be looked into: it is another user's, or not dumpable, or has more capabilities, or "
        f"is outside of this user namespace, which takes CAP_SYS_PTRACE{more} {_where_to_get(lacking)}"
    )


def _lacking() -> list[str]:
    effective = int(_status("CapEff") or "0", 16)
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _is_filtered() -> bool:
    return _status("Seccomp") == "2"


def _status(key: str) -> str:
    lines = (files.read("/proc/self/status") or "").splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{key}:")), "")


def _is_namespaced() -> bool:
    """In a user namespace root has all capabilities, over what is in there, and the kernel wants those of the host."""
    return (files.read("/proc/self/uid_map") or "").split() not in ([], _EVERYBODY)


def _where_to_get(lacking: list[str]) -> str:
    if _is_namespaced():
        return "(this is a user namespace, as of a rootless container: run it on the host, as root)"
    added = " ".join(f"--cap-add {name.removeprefix('CAP_')}" for name in lacking or ["CAP_SYS_PTRACE"])
    return f"(run it as root; in a container: {added})"


def _may_swap(pid: int) -> bool:
    if not files.read_table("/proc/meminfo").get("SwapFree", 0):
        return False
    cgroup = memory_cgroup(pid)
    return cgroup is None or memory_state(cgroup).swap_limit != 0


# ---- cgroups


def cgroup_at(path: Path) -> MemoryCgroup:
    """The memory cgroup whose directory that is; `OSError` if it is none."""
    version: Literal[1, 2] = 2 if (path / "memory.current").exists() else 1
    if version == 1 and not (path / "memory.usage_in_bytes").exists():
        raise OSError(errno.ENOENT, f"{path} is no directory of a memory cgroup")
    return MemoryCgroup(version, path, path)


def cgroup_usage(path: Path) -> int:
    """Bytes charged now."""
    return memory_state(cgroup_at(path)).usage or 0


def cgroup_processes(path: Path) -> Iterator[int]:
    """Of it and of all below it, which are charged to it."""
    cgroup_at(path)
    for directory, _, names in os.walk(path):
        if "cgroup.procs" in names:
            with suppress(ValueError):
                for pid in (files.read(Path(directory) / "cgroup.procs") or "").split():
                    if int(pid) > 0:
                        yield int(pid)
