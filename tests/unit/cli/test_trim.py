"""`mvolatile trim`: volatile memory of a running process goes, its own stays, and who may not is told why."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mvolatile import SharedCache, _core, cli
from mvolatile.kernel import trim
from mvolatile.kernel.cgroup import ChildCgroup
from mvolatile.kernel.files import read_table
from support.cgroups import why_not
from support.processes import LONGEST, command, run_python

OWN = 24 << 20


def hold(own: int) -> None:
    """40 MB in a cache, `own` bytes of the program's; at the end it looks through both."""
    import sys
    import time

    import mvolatile as mv
    from mvolatile.kernel.smaps import rollup

    cache: mv.VolatileCache[int, bytes] = mv.VolatileCache()
    for key in range(40):
        cache[key] = bytes([key]) * 1_000_000
    mine = bytearray(b"m" * own)
    held = mv.VolatileMemory(4 << 20)
    held.write(b"h" * (4 << 20))
    while rollup().lazy_free < 36_000_000:  # what was just stored is still held, for some milliseconds
        time.sleep(0.01)
    with held.pin() as view:
        print("up", flush=True)
        sys.stdin.readline()
        assert view == b"h" * (4 << 20)
    assert mine == b"m" * own
    wrong = [key for key in range(40) if cache.get(key) not in (None, bytes([key]) * 1_000_000)]
    print(len(cache), wrong, flush=True)


def may_trim() -> str | None:
    """Why this process may not trim others; None if it may."""
    pidfd = os.pidfd_open(os.getppid())
    try:
        _core.pageout_of(pidfd, 0, 0)
    except OSError as error:
        return str(error)
    finally:
        os.close(pidfd)
    return None if os.geteuid() == 0 else "only root has CAP_SYS_NICE here"


needs_rights = pytest.mark.skipif(may_trim() is not None, reason=str(may_trim()))
needs_tier = pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here")


@contextlib.contextmanager
def holder(wrap: Sequence[str] = (), cgroup: ChildCgroup | None = None) -> Iterator[subprocess.Popen[str]]:
    argv = [*wrap, *command(hold, OWN)]
    with subprocess.Popen(
        cgroup.wrap(argv) if cgroup else argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How many values it still had, and which were wrong."""
    said, _ = process.communicate("\n", LONGEST)
    count, _, wrong = said.strip().partition(" ")
    return int(count), wrong


@needs_rights
@needs_tier
def test_a_process_keeps_what_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with holder() as process:
        rss, swap = trim.rss_of(process.pid), read_table(f"/proc/{process.pid}/status")["VmSwap"]
        target = rss - (20 << 20)
        assert cli.main(["trim", "--pid", str(process.pid), "--to", str(target), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["before"] == rss
        assert rss - (44 << 20) < told["after"] <= target
        assert told["enough"]
        assert cli.main(["trim", "--pid", str(process.pid), "--to", "0"]) == 3
        said = capsys.readouterr().out
        assert "is not volatile, or held" in said
        assert trim.rss_of(process.pid) >= OWN + (4 << 20)
        assert read_table(f"/proc/{process.pid}/status")["VmSwap"] == swap
        count, wrong = ended(process)
    assert wrong == "[]"
    assert count < 40


@needs_rights
@needs_tier
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_cgroup_whose_limit_is_to_be_lowered(capsys: pytest.CaptureFixture[str]) -> None:
    with ChildCgroup(256 << 20) as cgroup, holder(cgroup=cgroup) as process:
        before = cgroup.usage()
        assert before > 64 << 20
        target = 60 << 20
        assert cli.main(["trim", "--cgroup", str(cgroup.path), "--to", "60MiB"]) == 0
        assert "usage of" in capsys.readouterr().out
        assert cgroup.usage() <= target
        cgroup.set_limit(64 << 20)  # EBUSY in version 1 where it cannot be
        _, wrong = ended(process)
        assert wrong == "[]"
        assert cgroup.oom_kills() == 0
    assert cli.main(["trim", "--cgroup", "/proc", "--to", "0"]) == 1
    assert "no directory of a memory cgroup" in capsys.readouterr().err


WITHOUT_BOTH = """
import ctypes, os, sys
for capability in 19, 23:
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Who has more capabilities than another may not be looked into by it (from Linux 6.14 on, CAP_PERFMON will do)."""


def trim_under_a_container_s_profile(capabilities: str, pid: int) -> None:
    """Docker's refuses process_madvise to who has no CAP_SYS_PTRACE."""
    import ctypes
    import os
    import sys

    from support.seccomp import refuse

    refuse(440)
    for capability in map(int, capabilities.split()):
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
    os.execv(sys.executable, [sys.executable, "-m", "mvolatile", "trim", "--pid", str(pid), "--to", "0"])


def trim_as_root_without(capability: int, pid: int) -> None:
    import ctypes
    import os
    import sys

    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP: from exec on
    os.execv(sys.executable, [sys.executable, "-m", "mvolatile", "trim", "--pid", str(pid), "--to", "0"])


def trim_as_another_user(user: int, pid: int) -> None:
    import os

    from mvolatile import features
    from mvolatile.kernel import trim

    features()  # a tier that is forced is tried now: afterwards this process may not read of itself
    os.setuid(user)  # who may not read what this Python would import later
    try:
        trim.trim_process(pid, lambda: False)
    except PermissionError as error:
        raise SystemExit(str(error)) from None


@needs_tier
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
@pytest.mark.parametrize(
    ("trims", "who", "named"),
    [
        (trim_as_root_without, 23, "(run it as root; in a container: --cap-add SYS_NICE)"),
        (trim_as_another_user, 1000, "CAP_SYS_PTRACE"),
        (trim_under_a_container_s_profile, "23 19", "--cap-add SYS_NICE --cap-add SYS_PTRACE"),
        (trim_under_a_container_s_profile, "19", "CAP_SYS_PTRACE under this container's seccomp"),
        (trim_under_a_container_s_profile, "", "a seccomp filter without process_madvise"),
    ],
    ids=["CAP_SYS_NICE", "CAP_SYS_PTRACE", "both, filtered", "CAP_SYS_PTRACE, filtered", "filtered"],
)
def test_the_right_that_is_missing_is_named(trims: Callable[..., None], who: int | str, named: str) -> None:
    with holder([sys.executable, "-c", WITHOUT_BOTH]) as process:
        done = run_python(trims, who, process.pid)
        assert done.returncode == 1, done
        assert named in done.stderr, done
        count, wrong = ended(process)
    assert (count, wrong) == (40, "[]")


@needs_tier
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")
def test_who_lacks_both_rights_is_told_of_both() -> None:
    with holder() as process:
        done = run_python(trim_as_another_user, 1001, process.pid)
        for named in ("CAP_SYS_PTRACE (and", "CAP_SYS_NICE", "--cap-add SYS_NICE --cap-add SYS_PTRACE"):
            assert named in done.stderr, done


def trim_one_of_this_namespace() -> None:
    import subprocess
    import sys

    from mvolatile import cli

    program = """
import time
import mvolatile
from mvolatile.kernel.smaps import rollup
memory = mvolatile.VolatileMemory(4 << 20)  # a mapping of its own, of which all is volatile
memory.write(bytes(4 << 20))
while rollup().lazy_free < 3 << 20:
    time.sleep(0.01)
print(flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        code = cli.main(["trim", "--pid", str(process.pid), "--to", "0"])
        process.communicate("\n")
    sys.exit(code)


@needs_tier
def test_root_of_a_user_namespace_is_told_where_its_rights_end() -> None:
    """It has all capabilities there, and the kernel wants those of the host: no seccomp filter is at work."""
    own = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace is to be had")
    done = run_python(trim_one_of_this_namespace, wrap=lambda argv: [*own, *argv])
    assert done.returncode == 1, done
    assert "CAP_SYS_NICE of the host's own users" in done.stderr
    assert "run it on the host" in done.stderr
    with holder() as process:
        argv = ["trim", "--pid", str(process.pid), "--to", "0"]
        code = f"from mvolatile.cli import main; raise SystemExit(main({argv}))"
        done = run_python(code, wrap=lambda argv: [*own, *argv])
        assert done.returncode == 1, done
        assert "outside of this user namespace" in done.stderr
        assert "--cap-add" not in done.stderr


def test_no_such_process(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert cli.main(["trim", "--pid", str(process.pid), "--to", "0"]) == 1
    assert f"no process {process.pid}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--to", "5"], ["--pid", "1"], ["--pid", "1", "--to", "50%"], ["--pid", "1", "--to", "x"]]
)
def test_misuse(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["trim", *wrong])
    assert "usage:" in capsys.readouterr().err


@needs_tier
def test_a_keeper_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(tmp_path))
    assert cli.main(["trim", "--shared", "nobody", "--to", "0"]) == 1
    assert "no keeper" in capsys.readouterr().err
    with SharedCache[int, bytes]("trimmed", linger=0.1) as cache:
        for key in range(30):
            cache[key] = bytes([key]) * 1_000_000
        assert cli.main(["trim", "--shared", "trimmed", "--to", "12MB", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["before"] > 29_000_000
        assert told["after"] <= 12_000_000
        got = [cache.get(key) for key in range(30)]
        assert [key for key in range(30) if got[key] not in (None, bytes([key]) * 1_000_000)] == []
        assert sum(value is None for value in got) >= 17
