"""What this machine falls short of, and what to change to get more."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from ..kernel.features import Features

__all__ = ["ADVICE", "Advice", "advise"]


@dataclass(frozen=True, slots=True)
class Advice:
    """`shortcoming` holds where `applies` says so; `remedy` is what to change. `unit` and `pod` are lines that do it,
    of a systemd unit and of a Kubernetes pod, where there are such.
    """

    applies: Callable[[Features], bool]
    shortcoming: str
    remedy: str
    unit: str = ""
    pod: str = ""


def _lacks(name: str) -> Callable[[Features], bool]:
    return lambda found: bool(found.mechanisms[name])


ADVICE = (
    Advice(
        lambda found: found.forced,
        "MVOLATILE_TIER forces the tier, so that a better one may go unused",
        "unset MVOLATILE_TIER",
        unit="[Service]\nUnsetEnvironment=MVOLATILE_TIER",
    ),
    Advice(
        _lacks("populate_write"),
        "without MADV_POPULATE_WRITE a purge cannot be told from survival, so nothing is purged",
        "run Linux 5.14 or newer",
    ),
    Advice(
        lambda found: bool(found.mechanisms["madv_free"]) and found.mechanisms["populate_write"] == 0,
        "MADV_FREE is refused, so nothing can be purged",
        "allow madvise in the seccomp profile; kernels before 4.5 do not have it",
    ),
    Advice(
        lambda found: found.userfaultfd_errno == errno.EPERM and found.seccomp,
        "this container's seccomp profile refuses userfaultfd: touching purged memory reads zeros instead "
        "of raising SIGBUS, and peeks cost as much as pins",
        "add userfaultfd to the allowed calls of the profile (docker run --security-opt "
        "seccomp=PROFILE.json; in Kubernetes securityContext.seccompProfile type Localhost), or give the "
        "container /dev/userfaultfd (Linux 6.1), readable and writable for its user; no capability is needed",
        unit="[Service]\n# where it has SystemCallFilter= lines, after them:\nSystemCallFilter=userfaultfd\n"
        "# where it has DevicePolicy= or DeviceAllow= lines, with them:\nDeviceAllow=/dev/userfaultfd rw",
        pod="spec:\n  securityContext:\n    seccompProfile: {type: Localhost, localhostProfile: userfaultfd.json}",
    ),
    Advice(
        lambda found: found.userfaultfd_errno in (errno.EPERM, errno.EACCES) and not found.seccomp,
        "userfaultfd is refused, though no seccomp filter is at work",
        "look for a security module's rule (SELinux: allow the domain anon_inode userfaultfd); kernels "
        "before 5.11 need vm.unprivileged_userfaultfd=1",
    ),
    Advice(
        lambda found: found.userfaultfd_errno == errno.ENOSYS,
        "userfaultfd does not exist here",
        "run a kernel with CONFIG_USERFAULTFD; some sandboxes have none",
    ),
    Advice(
        lambda found: found.thp == "never" or found.thp_disabled,
        "huge pages are off: marking and purging cost 50 and 35 times as much per byte",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root), and do not start the program "
        "under prctl(PR_SET_THP_DISABLE)",
    ),
    Advice(
        lambda found: found.thp in ("always", "madvise") and found.thp_defrag == "never",
        "a fault takes a huge page only if one lies ready",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag (as root)",
    ),
    Advice(
        _lacks("pagemap_scan"),
        "without PAGEMAP_SCAN the lost pages of a purged range are found by reading pagemap, page by page",
        "run Linux 6.7 or newer",
    ),
    Advice(
        _lacks("pageout"),
        "without MADV_PAGEOUT tests cannot purge on demand",
        "run Linux 5.4 or newer, and allow madvise in the seccomp profile",
    ),
    Advice(
        _lacks("anon_name"),
        "this kernel keeps no names for anonymous memory: maps and `mvolatile status PID` cannot tell "
        "ranges apart",
        "run a kernel with CONFIG_ANON_VMA_NAME (Linux 5.17)",
    ),
    Advice(
        lambda found: found.ram_total is None,
        "/proc/meminfo cannot be read, so how much memory the machine has, and its pressure, stay unknown",
        "mount /proc, and without subset=pid",
    ),
    Advice(
        lambda found: not found.psi and found.ram_total is not None,
        "no pressure stall information: pressure on the whole machine goes unnoticed until pages are purged",
        "boot with psi=1, on a kernel with CONFIG_PSI",
    ),
    Advice(
        lambda found: found.max_map_count is not None and found.max_map_count < 65530,
        "vm.max_map_count is below the kernel's default: fewer separate ranges can live at once",
        "sysctl vm.max_map_count=65530 (as root)",
    ),
    Advice(
        lambda found: found.overcommit_memory == 2,
        "strict overcommit counts volatile memory against the commit limit until it is closed, purged or not",
        "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio (as root)",
    ),
    Advice(
        lambda found: found.cgroup_version is None,
        "no memory cgroup can be seen, so neither its limit nor its pressure is known",
        "mount cgroupfs in the container, with the memory controller",
    ),
    Advice(
        lambda found: found.cgroup_version is not None and not found.cgroup_writable,
        "no child cgroup may be made, so the demo and the pressure tests have no small memory of their own",
        "start from `systemd-run --user --scope`, or mount cgroupfs read-write in the container",
        unit="[Service]\nDelegate=memory",
    ),
)
"""In the order of weight."""


def advise(found: Features) -> list[Advice]:
    """What applies to this machine."""
    return [advice for advice in ADVICE if advice.applies(found)]
