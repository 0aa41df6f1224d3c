"""Each restriction that containers and service managers put on a process: which tier is left, and that nothing is
lied about. docs/containers.md says it to users.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvolatile import _core
from mvolatile.kernel.cgroup import ChildCgroup
from support.contained import SIZES
from support.processes import run_python

from .conftest import Contained, Wrap, exact, quiet

UNRESTRICTED = _core.tier()

pytestmark = pytest.mark.skipif(
    UNRESTRICTED == "unsupported", reason="nothing is purged here, restricted or not"
)

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the rules are written out for x86-64")


@on_x86_64
def test_default_seccomp_rules(contained: Contained) -> None:
    told = contained(
        "from support import seccomp; seccomp.apply_container_rules()", env={"MVOLATILE_TIER": ""}
    )
    assert told["tier"] == "faultcount"
    assert exact(told)
    assert quiet(told)
    assert "userfaultfd is refused: EPERM" in told["reason"]


@on_x86_64
def test_default_seccomp_rules_with_a_tier_that_they_refuse(contained: Contained) -> None:
    with pytest.raises(AssertionError, match=r"UnsupportedError.*userfaultfd"):
        contained(
            "from support import seccomp; seccomp.apply_container_rules()",
            env={"MVOLATILE_TIER": "userfaultfd"},
        )


def test_no_new_privileges(contained: Contained) -> None:
    told = contained("import ctypes; assert not ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)")
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)


def test_user_namespace(contained: Contained, unshare: Callable[..., Wrap]) -> None:
    told = contained(wrap=unshare("--user --map-root-user", "true"))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)


def test_read_only_root_and_proc(contained: Contained, unshare: Callable[..., Wrap]) -> None:
    readonly = (
        "for at in / /proc /sys; do mount --bind $at $at && mount -o remount,bind,ro $at || exit 1; done"
    )
    told = contained("open('/proc/self/comm').read()", wrap=unshare("--mount", readonly))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)


NO_PROC = "mount -t tmpfs none /proc"


def test_no_proc_at_all(contained: Contained, unshare: Callable[..., Wrap]) -> None:
    """UFFDIO_ZEROPAGE finds what is missing, so only the raw call, which must know what is mapped, cannot work."""
    told = contained(wrap=unshare("--mount", NO_PROC), env={"MVOLATILE_TIER": "userfaultfd"})
    assert told["tier"] == "userfaultfd"
    assert exact(told)
    assert told["warnings"] == []
    assert "/proc/self/maps" in told["raw"]["error"]
    assert told["cache"]["resident"] is None
    assert told["status"]["resident"] is None


def test_no_proc_and_what_the_command_says(unshare: Callable[..., Wrap]) -> None:
    for arguments in ([], [str(os.getpid())]):
        program = f"import sys; from mvolatile.cli import main; sys.exit(main(['status', *{arguments}]))"
        done = run_python(program, wrap=unshare("--mount", NO_PROC))
        assert done.returncode == 1
        assert (
            done.stderr == "mvolatile: /proc cannot be read: what processes hold stands in /proc/PID/smaps\n"
        )


def test_without_proc_what_needs_the_pagemap_says_so(unshare: Callable[..., Wrap]) -> None:
    program = """
import mvolatile
memory = mvolatile.VolatileMemory(1 << 20)
memory.write(b"x" * (1 << 20))
assert memory.purge() == 0
try:
    memory.resident()
except OSError as error:
    print(error)
try:
    memory.read(0)
except mvolatile.Purged as lost:
    print(lost.extents)
"""
    done = run_python(program, wrap=unshare("--mount", NO_PROC), env={"MVOLATILE_TIER": "userfaultfd"})
    told, lost = done.check().stdout.splitlines()
    assert "/proc/self/pagemap" in told
    assert lost != "()"


@on_x86_64
def test_no_proc_and_default_seccomp_rules(contained: Contained, unshare: Callable[..., Wrap]) -> None:
    """Nothing is left that could tell a loss, so nothing is ever marked."""
    rules = "from support import seccomp; seccomp.apply_container_rules()"
    told = contained(rules, wrap=unshare("--mount", NO_PROC), env={"MVOLATILE_TIER": ""})
    assert told["tier"] == "unsupported"
    assert "userfaultfd is refused: EPERM" in told["reason"]
    assert "/proc/self/pagemap is refused: ENOENT" in told["reason"]
    assert [one.split(":")[0] for one in told["warnings"]] == ["UnsupportedKernelWarning"]
    assert all(told[layout]["told"] == [] for layout in SIZES)


def test_the_tier_that_needs_proc_says_so(unshare: Callable[..., Wrap]) -> None:
    done = run_python(
        "import mvolatile; mvolatile.features()",
        wrap=unshare("--mount", NO_PROC),
        env={"MVOLATILE_TIER": "faultcount"},
    )
    assert (
        "UnsupportedError: MVOLATILE_TIER=faultcount cannot be had here: /proc/self/pagemap: No such"
        in str(done)
    )


TOO_BIG = """
import mvolatile
before = mvolatile.status()
try:
    mvolatile.VolatileMemory(1 << 34, "big")
except OSError as error:
    print(type(error).__name__, error)
assert mvolatile.status() == before
mvolatile.VolatileMemory(1 << 20).close()
"""


def test_limited_address_space(contained: Contained) -> None:
    """Both that the library fits into what a service gets, and what is said when a memory does not."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0} << 20, {0} << 20))"
    told = contained(limit.format(512))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)
    assert "annot allocate memory" in run_python(f"{limit.format(256)}\n{TOO_BIG}").check().stdout


LOCK = """
import ctypes, resource
libc = ctypes.CDLL(None, use_errno=True)
if libc.mlockall(2):
    raise OSError(ctypes.get_errno(), "mlockall(MCL_FUTURE)")
"""


@pytest.fixture
def may_lock() -> None:
    """Skips where RLIMIT_MEMLOCK leaves a process no room for all of its memory."""
    if run_python(LOCK + "bytearray(64 << 20)").returncode:
        pytest.skip("mlockall(MCL_FUTURE) needs root or a higher RLIMIT_MEMLOCK")


def test_locked_from_the_start(contained: Contained, may_lock: None) -> None:
    """MADV_FREE refuses locked memory: nothing can be purged, and one is told so."""
    told = contained(LOCK, env={"MVOLATILE_TIER": ""})
    assert told["tier"] == "unsupported"
    assert "mlockall" in told["reason"]
    assert [one.split(":")[0] for one in told["warnings"]] == ["UnsupportedKernelWarning"]
    assert all(told[layout]["told"] == [] for layout in SIZES)


def test_locked_later(contained: Contained, may_lock: None) -> None:
    """The tier has been chosen by then, so each memory that the kernel refuses warns, once."""
    told = contained(f"import mvolatile; mvolatile.features(); {LOCK}")
    assert told["tier"] == UNRESTRICTED
    warned = [one for one in told["warnings"] if one.startswith("VolatilityWarning")]
    assert all(sum(f"'{layout}'" in one for one in warned) == 1 for layout in SIZES)
    assert all("mlockall" in one and "its data is safe" in one for one in warned)
    assert all("MADV_FREE" in told[layout]["error"] for layout in SIZES), (
        "a purge on request says what refuses it"
    )


@pytest.fixture
def strict_overcommit() -> Iterator[None]:
    """vm.overcommit_memory=2 for the whole machine: only where the machine is the test's own."""
    if os.environ.get("MVOLATILE_OWN_MACHINE") != "1" or os.geteuid():
        pytest.skip("changes the whole machine: only in the virtual machines of `make kernels`, as root")
    mode, ratio = Path("/proc/sys/vm/overcommit_memory"), Path("/proc/sys/vm/overcommit_ratio")
    before = mode.read_text(), ratio.read_text()
    ratio.write_text("90")
    mode.write_text("2")
    try:
        yield
    finally:
        mode.write_text(before[0])
        ratio.write_text(before[1])


def test_strict_overcommit(contained: Contained, strict_overcommit: None) -> None:
    told = contained()
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)
    assert "annot allocate memory" in run_python(TOO_BIG).check().stdout


def test_memory_max_and_memory_high(contained: Contained, needs_cgroup: None) -> None:
    """Throttled at `high` and limited at `max`: the volatile pages go, and nobody is killed."""
    with ChildCgroup(96 << 20) as cgroup:
        high = cgroup.path / "memory.high"
        if not high.exists():
            pytest.skip("memory.high needs the memory controller of cgroup v2")
        high.write_text(str(64 << 20))
        prelude = """
import mvolatile
memories = [mvolatile.VolatileMemory(1 << 20, huge=False) for _ in range(160)]
for number, memory in enumerate(memories):
    memory.write(bytes([number + 1]) * (1 << 20))
lost = 0
for number, memory in enumerate(memories):
    try:
        assert memory.read(0) == bytes([number + 1]) * (1 << 20)
    except mvolatile.Purged:
        lost += 1
assert 0 < lost < 160, lost
for memory in memories:
    memory.close()
"""
        told = contained(prelude, wrap=cgroup.wrap)
        assert told["tier"] == UNRESTRICTED
        assert cgroup.oom_kills() == 0


BECOME_SOMEBODY = "import os; os.setgroups([]); os.setgid(1000); os.setuid(1000)"


@pytest.fixture
def may_become_somebody() -> None:
    """Skips where no other user can run this interpreter."""
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    program = Path(sys.executable).resolve()
    if not all(one.stat().st_mode & 1 for one in (program, *program.parents)):
        pytest.skip("another user may not run this Python")


def test_a_daemon_that_changed_its_user(contained: Contained, may_become_somebody: None) -> None:
    """It may not read its own pagemap, which belongs to root since."""
    if _core.probe()["userfaultfd"]:
        pytest.skip("userfaultfd is refused here")
    told = contained(BECOME_SOMEBODY, env={"MVOLATILE_TIER": ""})
    assert told["tier"] == "userfaultfd"
    assert exact(told)
    assert quiet(told)
    assert told["cache"]["resident"] is None
    assert told["status"]["resident"] is None


@on_x86_64
def test_a_daemon_that_changed_its_user_and_default_seccomp_rules(
    contained: Contained, may_become_somebody: None
) -> None:
    rules = f"{BECOME_SOMEBODY}; from support import seccomp; seccomp.apply_container_rules()"
    told = contained(rules, env={"MVOLATILE_TIER": ""})
    assert told["tier"] == "unsupported"
    assert "userfaultfd is refused: EPERM" in told["reason"]
    assert "/proc/self/pagemap is refused: EACCES" in told["reason"]
    assert [one.split(":")[0] for one in told["warnings"]] == ["UnsupportedKernelWarning"]
    assert all(told[layout]["told"] == [] for layout in SIZES)


def test_a_daemon_that_asks_for_the_tier_that_needs_pagemap(may_become_somebody: None) -> None:
    done = run_python(
        f"{BECOME_SOMEBODY}; import mvolatile; mvolatile.features()", env={"MVOLATILE_TIER": "faultcount"}
    )
    assert (
        "UnsupportedError: MVOLATILE_TIER=faultcount cannot be had here: /proc/self/pagemap: Permission denied"
        in str(done)
    )
