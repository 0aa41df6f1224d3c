"""Child cgroups with a limit of their own, on the real cgroup filesystem."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mvolatile.errors import UnsupportedError
from mvolatile.kernel.cgroup import ChildCgroup, MemoryCgroup, child, memory_cgroup
from support.cgroups import run_limited
from support.processes import run_python

pytestmark = pytest.mark.usefixtures("needs_cgroup")

LIMIT = 64 << 20


def sleeper(cgroup: ChildCgroup) -> subprocess.Popen[str]:
    """A child that is inside the cgroup and has said so."""
    process = subprocess.Popen(
        cgroup.wrap([sys.executable, "-c", "import signal; print('in', flush=True); signal.pause()"]),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def reap(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait(200)


def test_a_child_over_the_limit_is_killed_and_one_under_it_is_not() -> None:
    killed = run_limited("block = bytes(1) * (2 * int(__import__('sys').argv[1]))", LIMIT, LIMIT)
    assert killed.returncode == -signal.SIGKILL
    assert killed.oom_kills == 1
    assert killed.peak is None or LIMIT * 0.9 < killed.peak <= LIMIT + (1 << 20)  # some charges must not fail

    def small() -> None:
        print(len(b"x" * (16 << 20)))

    whole = run_limited(small, LIMIT)
    assert (whole.returncode, whole.stdout, whole.oom_kills) == (0, f"{16 << 20}\n", 0)
    assert whole.peak is None or whole.peak > 16 << 20


def test_the_child_finds_itself_there_with_its_limit() -> None:
    def look() -> None:
        from mvolatile.kernel.cgroup import memory_cgroup, memory_state

        found = memory_cgroup()
        assert found is not None
        state = memory_state(found)
        print(found.path.name, state.limit, state.swap_limit, (state.usage or 0) > 0)

    with ChildCgroup(LIMIT) as cgroup:
        words = run_python(look, wrap=cgroup.wrap).check().stdout.split()
        assert words[:2] == [cgroup.path.name, str(LIMIT)]
        assert words[2] in ("0", "None"), "no swap beyond the limit, or no swap accounting"
        assert words[3] == "True"


def test_the_limit_can_be_raised_and_lowered() -> None:
    with ChildCgroup(LIMIT, swap_bytes=LIMIT) as cgroup:
        for limit in (4 * LIMIT, LIMIT // 2, LIMIT):
            cgroup.set_limit(limit)
            assert cgroup.limit == limit
            assert cgroup.state().limit == limit
        swap_limit = cgroup.state().swap_limit
        assert swap_limit in (LIMIT, None)


def test_closing_kills_what_is_left_and_removes_the_directory() -> None:
    with ChildCgroup(LIMIT) as cgroup:
        process = sleeper(cgroup)
        assert cgroup.pids() == [process.pid]
        assert cgroup.usage() > 0
    assert not cgroup.path.exists()
    assert reap(process) == -signal.SIGKILL
    cgroup.close()
    assert "closed" in repr(cgroup)
    with pytest.raises(ValueError, match="is closed"):
        _ = cgroup.limit


def test_a_process_of_elsewhere_can_be_added() -> None:
    with ChildCgroup(LIMIT) as cgroup, ChildCgroup(LIMIT) as other:
        process = sleeper(other)
        cgroup.add(process.pid)
        assert (cgroup.pids(), other.pids()) == ([process.pid], [])
    assert reap(process) == -signal.SIGKILL


def test_a_process_that_closes_the_cgroup_it_sits_in_goes_home_alive() -> None:
    def inside() -> None:
        import os

        from mvolatile.kernel.cgroup import ChildCgroup, memory_cgroup

        home = memory_cgroup()
        with ChildCgroup(64 << 20) as cgroup:
            cgroup.add(os.getpid())
            assert memory_cgroup() == cgroup.cgroup
        assert memory_cgroup() == home
        print("alive")

    assert run_python(inside).check().stdout == "alive\n"


def test_a_forgotten_cgroup_is_removed_and_a_forked_child_never_does_it() -> None:
    cgroup = ChildCgroup(LIMIT)
    path = cgroup.path
    if (pid := os.fork()) == 0:
        cgroup.close()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert path.is_dir()
    del cgroup
    gc.collect()
    assert not path.exists()


def test_a_wrapped_command_that_cannot_join_does_not_run() -> None:
    with ChildCgroup(LIMIT) as cgroup:
        pass
    done = run_python("print('ran')", wrap=cgroup.wrap)
    assert (done.returncode, done.stdout) == (125, "")


def test_a_stranger_who_got_the_pid_is_not_killed() -> None:
    """The listing says 17, 17 dies, another process becomes 17: it is not in the cgroup, and must live."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    with ChildCgroup(LIMIT) as cgroup:
        child._kill(process.pid, cgroup.path)  # noqa: SLF001
    process.communicate("\n", 200)
    assert process.returncode == 0


@pytest.mark.parametrize(("limit", "swap"), [(0, 0), (-1, 0), (LIMIT, -1)])
def test_nonsense_sizes(limit: int, swap: int) -> None:
    with pytest.raises(ValueError, match="limit_bytes must be positive"):
        ChildCgroup(limit, swap)


def test_what_is_not_permitted_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child, "memory_cgroup", lambda: None)
    with pytest.raises(UnsupportedError, match="no memory cgroup can be seen"):
        ChildCgroup(LIMIT)
    monkeypatch.setattr(child, "memory_cgroup", lambda: MemoryCgroup(1, tmp_path / "absent", tmp_path))
    with pytest.raises(UnsupportedError, match=r"no child cgroup may be made in .*absent"):
        ChildCgroup(LIMIT)
    monkeypatch.setattr(
        child, "memory_cgroup", lambda: MemoryCgroup(2, tmp_path / "absent", tmp_path / "absent")
    )
    with pytest.raises(UnsupportedError, match="systemd-run"):
        ChildCgroup(LIMIT)


def test_an_ordinary_user_is_told(tmp_path: Path) -> None:
    """As root the permission itself can be given up in a child."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody else")

    def as_nobody() -> None:
        import os

        import mvolatile.kernel.cgroup as cgroups
        from mvolatile.errors import UnsupportedError

        os.setgid(65534)
        os.setuid(65534)
        try:
            cgroups.ChildCgroup(64 << 20)
        except UnsupportedError as error:
            print(error)

    said = run_python(as_nobody).check().stdout
    own = memory_cgroup()
    assert own is not None
    assert "no child cgroup may be made" in said or "cgroup v2 allows no limited child" in said
