"""What is around a program that `features()` does not know: who may read whom, who watches RSS, how many caches there
are of one kind; and what to change.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..kernel import files, smaps
from ..kernel.features import Features
from ..residence import Of, Recycler
from ..shared.survey import way
from .advice import Advice
from .tables import mib

__all__ = ["Watcher", "around", "khugepaged", "many_caches", "watchers"]

KHUGEPAGED = "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag"
TAKES_HUGE = 7, 1
"""From this kernel on khugepaged leaves lazily freed pages alone."""

_OPTIONS: tuple[tuple[str, re.Pattern[str], int, Of, str], ...] = (
    (
        "Celery",
        re.compile(r"celery.*?(--max-memory-per-child[= ](\d+))"),
        10,
        "peak",
        "replaces the worker after its task",
    ),
    ("uWSGI", re.compile(r"uwsgi.*?(--(?:evil-)?reload-on-rss[= ](\d+))"), 20, "now", "replaces the worker"),
)


# Where keepers and clients meet must be their user's alone. systemd by itself makes a directory that others may enter,
# and a volume is root's.
_PLACE_OF_A_UNIT = """[Service]
RuntimeDirectory=mvolatile
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
Environment=MVOLATILE_RUNTIME_DIR=%t/mvolatile"""
_PLACE_OF_A_POD = """spec:
  shareProcessNamespace: true
  volumes:
  - {name: caches, emptyDir: {}}
  containers:  # each that is to share, as the same user
  - volumeMounts: [{name: caches, mountPath: /caches}]
    env: [{name: MVOLATILE_RUNTIME_DIR, value: /caches/mvolatile}]"""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Software that acts on the RSS of a process beyond `most` bytes; `pid` is None for one that is loaded here."""

    name: str
    setting: str
    most: int
    of: Of
    does: str
    pid: int | None = None


def watchers(loaded: list[Recycler]) -> list[Watcher]:
    """Those of this process, and those that command lines tell of; of a server and its workers, the server."""
    seen: dict[int, Watcher] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        line, pid = (files.read(directory / "cmdline") or "").replace("\0", " "), int(directory.name)
        for name, option, power, of, does in _OPTIONS:
            if match := option.search(line):
                seen[pid] = Watcher(name, match[1], int(match[2]) << power, of, does, pid)
    return [
        *(Watcher(one.name, one.setting, one.most, one.of, one.does) for one in loaded),
        *(
            one
            for pid, one in seen.items()
            if files.read_table(f"/proc/{pid}/status").get("PPid") not in seen
        ),
    ]


def khugepaged(found: Features) -> str:
    """Whether it works, and what that means here."""
    if files.read_int(KHUGEPAGED) != 1 or found.thp in (None, "never"):
        return "off"
    if _version(found.kernel) >= TAKES_HUGE:
        return "on, and leaves what is volatile alone"
    return "on, and kept away from what is volatile, of which it would make pages that reclaim does not take"


def _version(kernel: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", kernel)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def many_caches() -> list[tuple[int, str, int, int]]:
    """Families of processes that hold volatile memory each: parent, its command, how many, bytes in all."""
    families: dict[int, list[int]] = defaultdict(list)
    for pid in smaps.our_processes():
        try:
            held = sum(usage.lazy_free for usage in smaps.usage_by_name(pid))
        except OSError:
            continue  # it ended since it was listed
        status = files.read_table(f"/proc/{pid}/status")
        if held and status.get("PPid", 0) > 1:
            families[status["PPid"]].append(held)
    return [
        (parent, _command(parent), len(held), sum(held)) for parent, held in families.items() if len(held) > 1
    ]


def _command(pid: int) -> str:
    text = (files.read(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:60]


def _advice(shortcoming: str, remedy: str, unit: str = "", pod: str = "") -> Advice:
    return Advice(lambda _: True, shortcoming, remedy, unit, pod)


def _of_shared_reads() -> list[Advice]:
    how, why = way()
    if how != "message" or os.environ.get("MVOLATILE_SHARED_READ") == "message":
        return []
    told, _, remedy = why.partition("; ")
    return [
        _advice(
            f"hits of a shared cache are messages to its keeper, ten times as dear as reads: {told}",
            remedy or "allow process_vm_readv",
            unit="[Service]\n# where it has SystemCallFilter= lines, after them:\nSystemCallFilter=process_vm_readv",
            pod="spec:\n  securityContext:\n    seccompProfile: {type: RuntimeDefault}",
        )
    ]


def _of_huge_pages(found: Features) -> list[Advice]:
    if found.thp != "always" or not khugepaged(found).startswith("on, and kept"):
        return []
    return [
        _advice(
            "with huge pages 'always', khugepaged of kernels before 7.1 makes of lazily freed pages huge ones that "
            "reclaim does not take: this library keeps it away from its memory, but not from what malloc frees so",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root), or run Linux 7.1",
            unit="[Service]\nExecStartPre=+/bin/sh -c 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled'",
        )
    ]


def _of_cgroup(found: Features) -> list[Advice]:
    if found.cgroup_version != 2 or found.cgroup_path is None:
        return []
    try:
        read_only = bool(os.statvfs(found.cgroup_path).f_flag & os.ST_RDONLY)
    except OSError:
        return []
    if not read_only:
        return []
    return [
        _advice(
            "cgroup v2 is mounted read-only: pressure inside this container cannot be listened for, which takes a "
            "write into memory.pressure, and memory.reclaim cannot be asked",
            "mount it read-write (docker run --cgroupns private --security-opt writable-cgroups=true), or have the "
            "host do both: mvolatile trim --cgroup PATH",
            unit="[Service]\nDelegate=memory",
        )
    ]


def _of_families() -> list[Advice]:
    return [
        _advice(
            f"{count} processes of {command!r} (pid {parent}) hold a cache each, {mib(nbytes)} in all, of which much "
            "is the same values again",
            'share one: volatile_cache(shared="NAME"), or SharedCache("NAME")',
            unit=_PLACE_OF_A_UNIT,
            pod=_PLACE_OF_A_POD,
        )
        for parent, command, count, nbytes in many_caches()
    ]


def around(found: Features) -> list[Advice]:
    """What applies here."""
    return [*_of_shared_reads(), *_of_huge_pages(found), *_of_cgroup(found), *_of_families()]
