"""What this kernel and this container give, in one record."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import _core
from . import files, psi
from .cgroup import memory_cgroup, memory_state
from .room import limit

__all__ = ["Features", "features"]

_THP = "/sys/kernel/mm/transparent_hugepage"

_NEEDED = {
    "madv_free": "MADV_FREE (Linux 4.5)",
    "populate_write": "MADV_POPULATE_WRITE (Linux 5.14)",
}
"""Without these nothing can be purged, or a purge could not be told."""

_EXACT = {
    "userfaultfd": "userfaultfd",
    "uffd_sigbus": "UFFD_FEATURE_SIGBUS (Linux 4.14)",
}
"""What the tier 'userfaultfd' needs on top."""

_UNTRIED = -1

_COUNTING = {"pagemap": "/proc/self/pagemap"}
"""What the tier 'faultcount' needs on top."""


class Mechanisms(Mapping[str, int | None]):
    """A read-only mapping. No `MappingProxyType`: that can be neither pickled nor copied."""

    __slots__ = ("_codes",)

    def __init__(self, codes: Mapping[str, int | None]) -> None:
        self._codes = dict(codes)

    def __getitem__(self, name: str) -> int | None:
        return self._codes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._codes)

    def __len__(self) -> int:
        return len(self._codes)

    def __repr__(self) -> str:
        return repr(self._codes)


# No slots: they would be pickled by their order, and later versions have more.
@dataclass(frozen=True, kw_only=True)
class Features:
    """A reading of this machine as this process sees it; sizes in bytes. Each is known by its name alone: later
    versions have more.

    None means 'no limit' for limits and 'the kernel does not say' for the rest. The tier and `mechanisms` are
    probed once per process, everything else is read anew by each `features()`. It cannot be changed; it can be
    compared, copied and pickled.
    """

    tier: str
    """'userfaultfd', 'faultcount' or 'unsupported'."""
    can_purge: bool
    """Whether the kernel takes volatile pages back at all."""
    can_trap: bool
    """Whether a touch of a purged page outside pin and peek raises SIGBUS."""
    reason: str
    """Why this tier and no better one."""
    forced: bool
    """Whether ``MVOLATILE_TIER`` chose the tier."""
    mechanisms: Mapping[str, int | None]
    """Each kernel mechanism: 0 if it works, else the errno it was refused with. None if it was not tried: a tier that
    ``MVOLATILE_TIER`` forces makes no call that it does not use, and ``/dev/userfaultfd`` is a second way.
    """

    kernel: str
    machine: str
    page_size: int
    huge_page_size: int | None
    thp: str | None
    """Which ranges get huge pages: 'always', 'madvise' or 'never'."""
    thp_defrag: str | None
    """When a fault waits for a huge page to be put together."""
    thp_disabled: bool
    """Whether ``prctl(PR_SET_THP_DISABLE)`` refuses huge pages to this process."""
    mglru: bool
    """Whether the multi-generational LRU reclaims."""
    max_map_count: int | None
    memlock_limit: int | None
    overcommit_memory: int | None
    seccomp: bool
    """Whether a seccomp filter is at work, as in most containers."""

    ram_total: int | None
    """None, as the next three, where ``/proc/meminfo`` cannot be read: no ``/proc``, or one mounted ``subset=pid``."""
    ram_available: int | None
    swap_total: int | None
    swap_free: int | None

    cgroup_version: int | None
    """Of the memory cgroup; None if none can be seen."""
    cgroup_path: str | None
    cgroup_writable: bool
    """Whether children may be made below it (version 1) or beside it (version 2), for limited experiments."""
    cgroup_limit: int | None
    cgroup_usage: int | None
    cgroup_working_set: int | None
    cgroup_swap_limit: int | None
    cgroup_oom_kills: int

    psi: bool
    """Whether pressure stall information can be read."""

    @property
    def userfaultfd_errno(self) -> int | None:
        """0, or the errno of userfaultfd; ``EPERM`` is mostly a container's seccomp profile. None: not tried."""
        return self.mechanisms["userfaultfd"]

    @property
    def pagemap_scan(self) -> bool:
        """Whether lost pages are found by ``PAGEMAP_SCAN`` (Linux 6.7) rather than by reading pagemap."""
        return self.mechanisms["pagemap_scan"] == 0


def features() -> Features:
    """Probe the kernel and read the limits; needs no privilege, changes nothing and raises nothing of its
    own. At the first use of the library in a process, here or elsewhere, `OSError` (``EMFILE``, ``ENFILE``) where no
    descriptors are left; the next use tries again.

    >>> features().tier in ("userfaultfd", "faultcount", "unsupported")
    True
    """
    tier = _core.tier()
    probed = _core.probe().items()
    mechanisms = Mechanisms({name: None if code == _UNTRIED else code for name, code in probed})
    forced = bool(os.environ.get("MVOLATILE_TIER"))
    meminfo = files.read_table("/proc/meminfo")
    status = files.read_table("/proc/self/status")
    cgroup = memory_cgroup()
    state = None if cgroup is None else memory_state(cgroup)
    return Features(
        tier=tier,
        can_purge=tier != "unsupported",
        can_trap=tier == "userfaultfd",
        reason=_reason(tier, forced, mechanisms),
        forced=forced,
        mechanisms=mechanisms,
        kernel=platform.release(),
        machine=platform.machine(),
        page_size=mmap.PAGESIZE,
        huge_page_size=files.read_int(f"{_THP}/hpage_pmd_size"),
        thp=_chosen(f"{_THP}/enabled"),
        thp_defrag=_chosen(f"{_THP}/defrag"),
        thp_disabled=status.get("THP_enabled", 1) == 0,
        mglru=bool(int(files.read("/sys/kernel/mm/lru_gen/enabled") or "0", 16) & 1),
        max_map_count=files.read_int("/proc/sys/vm/max_map_count"),
        memlock_limit=limit(resource.RLIMIT_MEMLOCK),
        overcommit_memory=files.read_int("/proc/sys/vm/overcommit_memory"),
        seccomp=status.get("Seccomp", 0) == 2,
        ram_total=meminfo.get("MemTotal"),
        ram_available=meminfo.get("MemAvailable"),
        swap_total=meminfo.get("SwapTotal"),
        swap_free=meminfo.get("SwapFree"),
        cgroup_version=None if cgroup is None else cgroup.version,
        cgroup_path=None if cgroup is None else str(cgroup.path),
        cgroup_writable=cgroup is not None and any(map(_writable, cgroup.lineage()[:2])),
        cgroup_limit=None if state is None else state.limit,
        cgroup_usage=None if state is None else state.usage,
        cgroup_working_set=None if state is None else state.working_set,
        cgroup_swap_limit=None if state is None else state.swap_limit,
        cgroup_oom_kills=0 if state is None else state.oom_kills,
        psi=psi.read_psi() is not None,
    )


def _writable(directory: Path) -> bool:
    return os.access(directory, os.W_OK)


def _chosen(path: str) -> str | None:
    """The word in brackets of a sysfs file such as ``always [madvise] never``."""
    for word in (files.read(path) or "").split():
        if word.startswith("["):
            return word.strip("[]")
    return None


def _refused(needed: Mapping[str, str], mechanisms: Mapping[str, int | None]) -> list[str]:
    return [
        f"{title} is refused: {errno.errorcode.get(code, code)} ({os.strerror(code)}){_hint(name, code)}"
        for name, title in needed.items()
        if (code := mechanisms[name])
    ]


def _hint(name: str, code: int) -> str:
    """MADV_FREE refuses locked memory, by the errno that says 'unknown' before Linux 4.5."""
    return ", as where all memory is locked (mlockall)" if (name, code) == ("madv_free", errno.EINVAL) else ""


def _reason(tier: str, forced: bool, mechanisms: Mapping[str, int | None]) -> str:
    if forced:
        return f"MVOLATILE_TIER={os.environ['MVOLATILE_TIER']} asks for it"
    if tier == "userfaultfd":
        device = mechanisms["userfaultfd_device"] == 0
        return "userfaultfd with SIGBUS works here" + (", by way of /dev/userfaultfd" if device else "")
    missing = _refused(_NEEDED, mechanisms) if tier == "unsupported" else []
    missing = missing or _refused(_EXACT, mechanisms)
    if tier == "unsupported":
        missing += _refused(_COUNTING, mechanisms)
    return "; ".join(missing) or "the core chose it"
