"""`mvolatile doctor` on this machine, and its advice for others."""

from __future__ import annotations

import dataclasses
import errno
import json
import platform
from typing import Any

import pytest

from mvolatile import cli
from mvolatile.cli.advice import ADVICE, advise
from mvolatile.kernel.features import Features, features
from support.processes import run_on_terminal

PERFECT = Features(
    tier="userfaultfd",
    can_purge=True,
    can_trap=True,
    reason="userfaultfd with SIGBUS works here",
    forced=False,
    mechanisms=dict.fromkeys(
        [
            "userfaultfd",
            "userfaultfd_device",
            "uffd_sigbus",
            "madv_free",
            "populate_write",
            "pageout",
            "pagemap",
            "pagemap_scan",
            "procmap_query",
            "anon_name",
        ],
        0,
    ),
    kernel="6.12.0",
    machine="x86_64",
    page_size=4096,
    huge_page_size=2 << 20,
    thp="madvise",
    thp_defrag="madvise",
    thp_disabled=False,
    mglru=True,
    max_map_count=65530,
    memlock_limit=8 << 20,
    overcommit_memory=0,
    seccomp=False,
    ram_total=8 << 30,
    ram_available=4 << 30,
    swap_total=0,
    swap_free=0,
    cgroup_version=2,
    cgroup_path="/sys/fs/cgroup/user.slice",
    cgroup_writable=True,
    cgroup_limit=None,
    cgroup_usage=1 << 30,
    cgroup_working_set=1 << 29,
    cgroup_swap_limit=None,
    cgroup_oom_kills=0,
    psi=True,
)


def worse(*, refused: dict[str, int] | None = None, **changes: Any) -> Features:
    mechanisms = {**PERFECT.mechanisms, **(refused or {})}
    return dataclasses.replace(PERFECT, mechanisms=mechanisms, **changes)


CASES = [
    (worse(forced=True), "unset MVOLATILE_TIER"),
    (worse(refused={"populate_write": errno.EINVAL}), "Linux 5.14"),
    (worse(refused={"madv_free": errno.EPERM}), "allow madvise"),
    (worse(refused={"userfaultfd": errno.EPERM}, seccomp=True), "--security-opt seccomp="),
    (worse(refused={"userfaultfd": errno.EPERM}), "SELinux"),
    (worse(refused={"userfaultfd": errno.ENOSYS}), "CONFIG_USERFAULTFD"),
    (worse(thp="never"), "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    (worse(thp_disabled=True), "PR_SET_THP_DISABLE"),
    (worse(thp_defrag="never"), "transparent_hugepage/defrag"),
    (worse(refused={"pagemap_scan": errno.ENOTTY}), "Linux 6.7"),
    (worse(refused={"pageout": errno.EINVAL}), "Linux 5.4"),
    (worse(refused={"anon_name": errno.EINVAL}), "CONFIG_ANON_VMA_NAME"),
    (worse(psi=False), "psi=1"),
    (worse(ram_total=None, ram_available=None, psi=False), "subset=pid"),
    (worse(max_map_count=1000), "sysctl vm.max_map_count"),
    (worse(overcommit_memory=2), "vm.overcommit_memory=0"),
    (worse(cgroup_version=None), "mount cgroupfs"),
    (worse(cgroup_writable=False), "systemd-run"),
]


@pytest.mark.parametrize(("found", "remedy"), CASES, ids=[remedy for _, remedy in CASES])
def test_each_shortcoming_has_its_remedy(found: Features, remedy: str) -> None:
    assert [one for one in advise(found) if remedy in one.remedy], advise(found)
    assert len(advise(found)) == 1


def test_a_perfect_machine_needs_nothing_and_every_advice_has_a_case() -> None:
    assert advise(PERFECT) == []
    assert {one for found, _ in CASES for one in advise(found)} == set(ADVICE)


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert platform.release() in said
    assert features().tier in said
    for one in advise(features()):
        assert one.remedy[:40] in said


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = features()
    assert (said["tier"], said["kernel"], said["ram_total"]) == (found.tier, found.kernel, found.ram_total)
    assert said["mechanisms"] == dict(found.mechanisms)
    assert [one["remedy"] for one in said["advice"]] == [one.remedy for one in advise(found)]
    assert (said["memory_pressure"] is None) == (not found.psi)


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "no rich"])
def test_on_a_terminal(rich: bool) -> None:
    """What is told is the same, and the second column begins in one place."""
    if rich:
        pytest.importorskip("rich")

    def child(rich: bool) -> None:
        import sys

        from mvolatile.cli import main

        if not rich:
            sys.modules["rich"] = None  # type: ignore[assignment]
        main(["doctor"])
        assert ("rich.table" in sys.modules) == rich

    lines = run_on_terminal(child, rich).splitlines()
    assert lines[0].strip() == "mvolatile doctor"
    kernel = next(line for line in lines if "Linux " in line)
    tier = next(line for line in lines if "tier " in line)
    assert kernel.index("Linux ") == tier.index(f"{features().tier}:")
