"""Finding the memory cgroup, from texts as hosts and containers show them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mvolatile.kernel.cgroup import MemoryCgroup, memory_cgroup, memory_state
from support.processes import run_python

Locate = Callable[..., MemoryCgroup | None]

V1_HOST = "40 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:16 - cgroup cgroup rw,memory"
V1_CPU = "38 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct"
V2_HOST = (
    "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
)
V2_HYBRID = (
    "34 31 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw"
)
DOCKER_ID = "6c2f3c27a1f8b5f5cbb5a80c3e4f0a9d9f6f4a4a6b3f7d1be2f5c5be9e0e1a7c"


@pytest.fixture
def locate(tmp_path: Path) -> Locate:
    """Lays out proc and the cgroup directories in a directory of its own, and looks there."""

    def build(
        cgroup: str,
        mountinfo: list[str],
        *directories: str,
        procs: str = "",
        controllers: str = "cpu memory pids",
    ) -> MemoryCgroup | None:
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(cgroup)
        (proc / "mountinfo").write_text("\n".join(mountinfo) + "\n")
        for directory in directories:
            path = tmp_path / directory.lstrip("/")
            path.mkdir(parents=True)
            (path / "cgroup.procs").write_text(procs)
            if "unified" not in directory:
                (path / "cgroup.controllers").write_text(controllers)
            if "memory" not in directory and controllers:
                (path / "memory.current").write_text("0")
        found = memory_cgroup(root=tmp_path)
        if found is None:
            return None
        return MemoryCgroup(
            found.version,
            Path("/") / found.path.relative_to(tmp_path),
            Path("/") / found.mount.relative_to(tmp_path),
        )

    return build


def test_v1_on_a_host(locate: Locate) -> None:
    found = locate(
        "12:cpu,cpuacct:/\n4:memory:/user.slice/session-2.scope\n1:name=systemd:/user.slice\n0::/user.slice\n",
        [V1_CPU, V1_HOST, V2_HYBRID],
        "/sys/fs/cgroup/memory/user.slice/session-2.scope",
        "/sys/fs/cgroup/unified/user.slice",
    )
    top = Path("/sys/fs/cgroup/memory")
    assert found == MemoryCgroup(1, top / "user.slice/session-2.scope", top)
    assert found.lineage() == (top / "user.slice/session-2.scope", top / "user.slice", top)


def test_v1_container_without_a_cgroup_namespace_mounts_its_own_part(locate: Locate) -> None:
    found = locate(
        f"4:memory:/docker/{DOCKER_ID}\n0::/\n",
        [f"750 740 0:32 /docker/{DOCKER_ID} /sys/fs/cgroup/memory ro master:16 - cgroup memory rw,memory"],
        "/sys/fs/cgroup/memory",
    )
    assert found == MemoryCgroup(1, Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/memory"))


def test_v1_container_inside_a_container(locate: Locate) -> None:
    found = locate(
        f"4:memory:/docker/{DOCKER_ID}/docker/inner\n",
        [f"750 740 0:32 /docker/{DOCKER_ID} /sys/fs/cgroup/memory rw master:16 - cgroup memory rw,memory"],
        "/sys/fs/cgroup/memory/docker/inner",
    )
    assert found is not None
    assert found.path == Path("/sys/fs/cgroup/memory/docker/inner")
    assert found.lineage()[-1] == found.mount == Path("/sys/fs/cgroup/memory")


def test_the_hosts_path_is_not_in_the_container_but_we_are_seen_at_its_mount(locate: Locate) -> None:
    found = locate(
        f"4:memory:/kubepods/burstable/pod42/{DOCKER_ID}\n",
        [V1_HOST],
        "/sys/fs/cgroup/memory",
        procs=f"1\n{os.getpid()}\n",
    )
    assert found is not None
    assert found.path == Path("/sys/fs/cgroup/memory")


def test_a_mount_that_does_not_show_us_is_not_ours(locate: Locate) -> None:
    found = locate(
        f"4:memory:/docker/{DOCKER_ID}\n", [V1_HOST.replace(" / ", " /other ")], "/sys/fs/cgroup/memory"
    )
    assert found is None


def test_the_mount_that_shows_most_of_us_wins(locate: Locate) -> None:
    found = locate(
        "4:memory:/a/b\n",
        ["50 31 0:32 /a /mnt/part rw - cgroup cgroup rw,memory", V1_HOST],
        "/mnt/part/b",
        "/sys/fs/cgroup/memory/a/b",
    )
    assert found is not None
    assert found.path == Path("/mnt/part/b")


def test_v2_on_a_host(locate: Locate) -> None:
    found = locate(
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u5.scope\n",
        [V2_HOST],
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-u5.scope",
    )
    assert found is not None
    assert (found.version, found.path.name, len(found.lineage())) == (2, "run-u5.scope", 6)


def test_v2_container_with_a_cgroup_namespace(locate: Locate) -> None:
    found = locate(
        "0::/\n", ["1049 1043 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw"], "/sys/fs/cgroup"
    )
    assert found == MemoryCgroup(2, Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup"))


def test_v2_charges_the_nearest_ancestor_that_has_the_controller(locate: Locate, tmp_path: Path) -> None:
    leaf = tmp_path / "sys/fs/cgroup/payer/leaf"
    leaf.mkdir(parents=True)
    (leaf / "cgroup.procs").write_text("")
    (leaf.parent / "memory.current").write_text("4096")
    found = locate("0::/payer/leaf\n", [V2_HOST])
    assert found is None, "without controllers at the mount there is no memory cgroup"
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory")
    payer = memory_cgroup(root=tmp_path)
    assert payer is not None
    assert payer.path == leaf.parent


def test_a_mount_point_with_a_space(locate: Locate) -> None:
    found = locate("0::/\n", [r"35 24 0:30 / /mnt/my\040groups rw - cgroup2 cgroup2 rw"], "/mnt/my groups")
    assert found is not None
    assert found.path == Path("/mnt/my groups")


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        ("", []),
        ("4:memory:/x\n", []),
        ("0::/\n", [V2_HYBRID]),
        ("0::/../sibling\n", [V2_HOST]),
        ("0::/\n", [V2_HOST.replace(" / ", " /../.. ")]),
    ],
    ids=[
        "no cgroups",
        "not mounted",
        "v2 without memory",
        "moved out of the namespace",
        "mounted from outside of it",
    ],
)
def test_what_cannot_be_seen_is_none(locate: Locate, cgroup: str, mountinfo: list[str]) -> None:
    assert locate(cgroup, mountinfo, "/sys/fs/cgroup", "/sys/fs/cgroup/unified") is None


def test_this_process_is_listed_where_it_was_found() -> None:
    found = memory_cgroup()
    if found is None:
        pytest.skip("no memory cgroup can be seen here")
    assert str(os.getpid()) in (found.path / "cgroup.procs").read_text().split()
    assert memory_cgroup(os.getpid()) == found
    state = memory_state(found)
    assert state.usage is None or state.usage > 0


def test_inside_a_cgroup_namespace() -> None:
    """The namespace hides the names above; the old mounts then show roots with dots, and saying nothing is
    right.
    """

    def child() -> None:
        import ctypes
        import os

        from mvolatile.kernel.cgroup import memory_cgroup

        newcgroup = 0x02000000
        if ctypes.CDLL(None, use_errno=True).unshare(newcgroup):
            print("refused", os.strerror(ctypes.get_errno()))
            return
        print(memory_cgroup())

    output = run_python(child).check().stdout
    if output.startswith("refused"):
        pytest.skip(f"unshare(CLONE_NEWCGROUP): {output}")
    own = memory_cgroup()
    assert own is None or own.path == own.mount or output.strip() == "None"
