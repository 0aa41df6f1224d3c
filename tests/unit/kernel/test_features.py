"""The record of what this machine gives, against the machine itself."""

from __future__ import annotations

import copy
import dataclasses
import json
import mmap
import os
import pickle
from pathlib import Path

import pytest

from mvolatile.kernel.features import Features, features
from support.cgroups import run_limited
from support.processes import run_python

MECHANISMS = {
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
}


@pytest.fixture(scope="module")
def found() -> Features:
    return features()


def test_the_tier_and_what_follows_from_it(found: Features) -> None:
    assert found.can_purge == (found.tier in ("userfaultfd", "faultcount"))
    assert found.can_trap == (found.tier == "userfaultfd")
    assert found.reason
    assert set(found.mechanisms) >= MECHANISMS
    if not found.forced:
        exact = not (found.mechanisms["userfaultfd"] or found.mechanisms["uffd_sigbus"])
        possible = not (found.mechanisms["madv_free"] or found.mechanisms["populate_write"])
        expected = "unsupported" if not possible else "userfaultfd" if exact else "faultcount"
        assert found.tier == expected


def test_what_the_kernel_says_of_itself(found: Features) -> None:
    assert found.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found.page_size == mmap.PAGESIZE
    assert found.max_map_count == int(Path("/proc/sys/vm/max_map_count").read_text())
    assert found.ram_available is not None
    assert found.ram_total is not None
    assert 0 < found.ram_available <= found.ram_total
    assert found.swap_free is not None
    assert found.swap_total is not None
    assert 0 <= found.swap_free <= found.swap_total
    assert found.psi == Path("/proc/pressure/memory").exists()
    thp = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    assert found.thp == (thp.read_text().split("[")[1].split("]")[0] if thp.exists() else None)
    version = tuple(int(part) for part in found.kernel.split("-")[0].split(".")[:2])
    if version < (6, 7):
        assert not found.pagemap_scan


def test_it_is_a_frozen_record_that_goes_into_json(found: Features) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.tier = "unsupported"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.mechanisms["userfaultfd"] = 0  # type: ignore[index]
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    assert json.dumps(fields | {"mechanisms": dict(found.mechanisms)})


@pytest.mark.parametrize("tier", ["faultcount", "unsupported"])
def test_a_forced_tier(tier: str) -> None:
    def child() -> None:
        from mvolatile.kernel.features import features

        found = features()
        print(found.tier, found.can_purge, found.can_trap, found.forced, found.reason, sep="|")

        assert found.userfaultfd_errno is None, "not tried"
        assert (found.mechanisms["madv_free"] is None) == (found.tier == "unsupported")

    said = run_python(child, env={"MVOLATILE_TIER": tier}).check().stdout.strip().split("|")
    assert said == [tier, str(tier == "faultcount"), "False", "True", f"MVOLATILE_TIER={tier} asks for it"]


def test_a_container_that_refuses_userfaultfd(found: Features) -> None:
    """A real seccomp filter, as container engines install it."""
    if found.tier != "userfaultfd":
        pytest.skip(f"nothing to refuse: {found.reason}")

    def child() -> None:
        import errno

        from support.seccomp import USERFAULTFD, refuse

        refuse(USERFAULTFD)
        from mvolatile.cli.advice import advise
        from mvolatile.kernel.features import features

        found = features()
        assert found.seccomp
        assert found.userfaultfd_errno == errno.EPERM
        assert (found.tier, found.can_purge, found.can_trap) == ("faultcount", True, False), found
        assert "EPERM" in found.reason, found.reason
        assert any("seccomp" in one.remedy for one in advise(found))
        print("ok")

    assert run_python(child, env={"MVOLATILE_TIER": ""}).check().stdout == "ok\n"


def test_a_limited_cgroup_is_seen(needs_cgroup: None) -> None:
    def child() -> None:
        from mvolatile.kernel.features import features

        found = features()
        print(found.cgroup_limit, (found.cgroup_usage or 0) > 0, found.cgroup_path, found.cgroup_version)

    limit, used, path, version = run_limited(child, 96 << 20).stdout.split()
    assert (limit, used) == (str(96 << 20), "True")
    assert f"mvolatile-{os.getpid()}-" in path
    assert version in "12"


def test_it_is_copied_compared_and_pickled(found: Features) -> None:
    copies = [copy.copy(found), copy.deepcopy(found), dataclasses.replace(found)]
    copies += [pickle.loads(pickle.dumps(found, protocol)) for protocol in range(2, 6)]
    for other in copies:
        assert other == found
        assert other is not found
    assert dataclasses.asdict(found)["mechanisms"] == found.mechanisms == dict(found.mechanisms)
    assert found != dataclasses.replace(found, seccomp=not found.seccomp)


def test_it_is_known_by_names_alone(found: Features) -> None:
    """So that a field may be added anywhere."""
    assert Features.__match_args__ == ()
    with pytest.raises(TypeError):
        Features("userfaultfd")  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.tier = "unsupported"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.mechanisms["pagemap"] = 0  # type: ignore[index]
