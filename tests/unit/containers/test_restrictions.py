"""Each restriction that containers and service managers put on a process: which tier is left, and that nothing is
lied about. docs/containers.md says it to users.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mvolatile import _core
from mvolatile.kernel.cgroup import ChildCgroup

from .conftest import Contained, exact, quiet

UNRESTRICTED = _core.tier()

pytestmark = pytest.mark.skipif(
    UNRESTRICTED == "unsupported", reason="nothing is purged here, restricted or not"
)

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the rules are written out for x86-64")


@on_x86_64
def test_default_seccomp_rules(contained: Contained) -> None:
    told = contained("from support import seccomp; seccomp.apply_container_rules()")
    assert told["tier"] == "faultcount"
    assert exact(told)
    assert quiet(told)
    if not os.environ.get("MVOLATILE_TIER"):
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


def test_user_namespace(contained: Contained, unshare: Callable[..., object]) -> None:
    told = contained(wrap=unshare("--user --map-root-user", "true"))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)


def test_read_only_root_and_proc(contained: Contained, unshare: Callable[..., object]) -> None:
    readonly = (
        "for at in / /proc /sys; do mount --bind $at $at && mount -o remount,bind,ro $at || exit 1; done"
    )
    told = contained("open('/proc/self/comm').read()", wrap=unshare("--mount", readonly))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)


def test_no_proc_at_all(contained: Contained, unshare: Callable[..., object]) -> None:
    """Where traps work, UFFDIO_ZEROPAGE finds what is missing; without them every loss counts as a loss of all."""
    told = contained(wrap=unshare("--mount", "mount -t tmpfs none /proc"))
    assert told["tier"] == UNRESTRICTED
    assert not any("error" in told[layout] for layout in ("pooled", "base", "huge"))


def test_limited_address_space(contained: Contained) -> None:
    """Both that the library fits into what a service gets, and what is said when a memory does not."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0} << 20, {0} << 20))"
    told = contained(limit.format(512))
    assert told["tier"] == UNRESTRICTED
    assert exact(told)
    assert quiet(told)
    big = f"""
{limit.format(256)}
import mvolatile
try:
    mvolatile.VolatileMemory(1 << 30, "big")
except (MemoryError, OSError) as error:
    print(type(error).__name__, error)
mvolatile.VolatileMemory(1 << 20).close()
"""
    from support.processes import run_python

    assert "annot allocate memory" in run_python(big).check().stdout


def test_mlockall_of_everything_to_come(contained: Contained) -> None:
    """MADV_FREE refuses locked memory: data stays, and one is told that it does."""
    told = contained(
        "import ctypes, resource, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.mlockall(2): sys.exit(f'mlockall: {ctypes.get_errno()}')"
    )
    assert told["tier"] == UNRESTRICTED
    assert any(one.startswith("VolatilityWarning") and "its data is safe" in one for one in told["warnings"])
    for layout in ("pooled", "base", "huge"):
        assert told[layout]["told"] == [], "nothing that is locked goes"


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


def test_a_daemon_that_changed_its_user(contained: Contained) -> None:
    """It may not read its own pagemap, which belongs to root since."""
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    if not Path(os.sys.executable).stat().st_mode & 1 or any(  # type: ignore[attr-defined]
        not one.stat().st_mode & 1
        for one in Path(os.sys.executable).resolve().parents  # type: ignore[attr-defined]
    ):
        pytest.skip("another user may not read this Python")
    told = contained("import os; os.setgid(1000); os.setuid(1000)")
    assert told["tier"] == UNRESTRICTED
    assert not any("error" in told[layout] for layout in ("pooled", "base", "huge"))
