"""What is taken away once the library is open: by a sandbox that a program puts itself into, and by limits."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mvolatile import _core
from support.processes import run_python

from .conftest import Wrap

exact_tier = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="there is no better tier to fall from")

PRELUDE = """
import contextlib, ctypes, errno, mmap, os, resource, sys, threading, warnings
import mvolatile as mv
from mvolatile import Purged, VolatileMemory, _core
from support import seccomp
from support.areas import Area
from support.memories import PAGE, filled, lose, pattern

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})     # or reclaim may find pages on another CPU's lists
whole = filled(16 * PAGE, name="whole")
lossy = filled(16 * PAGE, name="lossy"); lose(lossy, [(PAGE, PAGE), (5 * PAGE, PAGE)])
large = filled(4 << 20, name="large"); lose(large, [(0, 2 << 20)])
base = filled(4 << 20, name="base", huge=False); lose(base, [(0, PAGE)])
held = filled(16 * PAGE, name="held"); hold = held.pin(); view = hold.__enter__()
fresh = VolatileMemory(16 * PAGE)
raw = Area(16); raw.fill(); mv.mvolatile(raw.address, raw.nbytes, 1); raw.reclaim(3, 1)

LOST = {whole: (), lossy: ((PAGE, PAGE), (5 * PAGE, PAGE)), large: ((0, 2 << 20),),
        base: ((0, PAGE),), held: (), fresh: ()}

def check(memory):
    "That it tells what it lost and nothing else, and that nothing of it traps under a pin."
    extents, wanted = LOST[memory], pattern(memory.nbytes) if memory is not fresh else bytes(memory.nbytes)
    assert memory.purged() == extents, (memory, memory.purged())
    try:
        with memory.pin() as view: assert bytes(view) == wanted
        assert not extents
    except Purged as error:
        assert error.extents == extents, (memory, error)
    with memory.pin(on_purge="zero", write=True) as view:
        expected = bytearray(wanted)
        for offset, n in extents: expected[offset:offset + n] = bytes(n)
        assert bytes(view) == expected, memory
        view[:] = wanted
    assert memory.purged() == () and memory.read(0) == wanted
    assert _core.is_valid(memory)

def check_all():
    for memory in LOST: check(memory)
    assert mv.mvolatile(raw.address, raw.nbytes, 0) == (raw.nbytes, 1)
    assert raw.bytes(3) == bytes(PAGE) and all(raw.whole(p) for p in range(16) if p != 3)
    new = filled(4 * PAGE); lose(new, [(PAGE, PAGE)])
    assert new.purged() == ((PAGE, PAGE),)
    other = Area(4); other.fill()
    assert mv.mvolatile(other.address, other.nbytes, 1) == (other.nbytes, 0)
    other.reclaim(1, 1)
    assert mv.mvolatile(other.address, other.nbytes, 0) == (other.nbytes, 1)

def in_child(work):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work(); status = 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally: os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def story(text: str, **options: object) -> str:
    return run_python(PRELUDE + text, **options).check().stdout  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS", "EINVAL"])
@exact_tier
def test_ioctl_is_refused(code: str) -> None:
    """Nobody can watch, or fill what is watched: a lower tier, in which no loss is made up and none goes untold."""
    story(f"""
seccomp.refuse(seccomp.IOCTL, errno.{code})
check_all()
assert _core.tier() == "faultcount"
LOST = dict.fromkeys(LOST, ())
lose(whole, [(PAGE, PAGE)]); LOST[whole] = ((PAGE, PAGE),)
def child():
    for memory in LOST: check(memory)
in_child(child)
""")


@pytest.mark.parametrize("first", ["new", "large", "unpin", "read", "write", "purge", "raw", "fork"])
@exact_tier
def test_ioctl_is_refused_whatever_comes_first(first: str) -> None:
    story(f"""
seccomp.refuse(seccomp.IOCTL)
def firsts():
    if {first!r} == "new": VolatileMemory(PAGE).write(b"x")
    if {first!r} == "large": VolatileMemory(2 << 20).write(b"x")
    if {first!r} == "unpin": hold.__exit__(None, None, None)
    if {first!r} == "read":
        try: base.read(0)
        except Purged as error: assert error.extents == LOST[base]
    if {first!r} == "write": fresh.write(b"\\0")
    if {first!r} == "purge": VolatileMemory(PAGE).purge()
    if {first!r} == "raw": assert mv.mvolatile(raw.address + 8 * PAGE, PAGE, 0) == (PAGE, 0)
    if {first!r} == "raw": assert mv.mvolatile(raw.address + 8 * PAGE, PAGE, 1) == (PAGE, 0)
if {first!r} == "fork": in_child(check_all)
firsts()
check_all()
""")


@exact_tier
def test_ioctl_is_refused_inside_a_peek() -> None:
    """The touch traps, and cannot be repaired: the watch ends there, and every peek is told."""
    story("""
other = filled(16 * PAGE)
alone = large.peek(2 << 20, PAGE)
seen = alone.__enter__()
with contextlib.suppress(mv.Overwritten):                # 'read again' is no lie
    try:
        with other.peek() as view:
            lose(other, [(2 * PAGE, PAGE)])
            seccomp.refuse(seccomp.IOCTL)
            assert view[2 * PAGE] == 0
        raise AssertionError("silent zeros")
    except Purged as error:
        assert error.extents == ((2 * PAGE, PAGE),), error
    assert bytes(seen) == pattern(4 << 20)[2 << 20:][:PAGE]
    alone.__exit__(None, None, None)
check_all()
""")


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_madvise_is_refused(code: str) -> None:
    """Nothing can be held: the error of the kernel, and no value that is wrong."""
    story(f"""
seccomp.refuse(seccomp.MADVISE, errno.{code})
warnings.simplefilter("ignore")
for memory, extents in LOST.items():
    assert memory.purged() == extents
    for attempt in (lambda: memory.read(0), lambda: bytes(memory.pin().__enter__())):
        try: assert attempt() == (bytes(16 * PAGE) if memory is fresh else pattern(memory.nbytes)) and not extents
        except Purged as error: assert error.extents == extents
        except OSError as error: assert error.errno == errno.{code}, error
try: answer = mv.mvolatile(raw.address, raw.nbytes, 0)
except OSError as error: assert error.errno == errno.{code} and mv.status().raw == raw.nbytes, error
else: raise AssertionError(answer)
""")


KILLED = """
import subprocess, sys
from support import seccomp
seccomp.kill_on(seccomp.USERFAULTFD)
from mvolatile import VolatileMemory, features, status
from mvolatile.cli import main
import os, warnings
warnings.simplefilter("ignore")
memory = VolatileMemory(8192); memory.write(b"x" * 8192)
assert memory.read(0, 3) == b"xxx"
memory.purge()
found = features()
assert found.userfaultfd_errno is None and found.mechanisms["userfaultfd"] is None
assert main(["doctor"]) == 0 == main(["doctor", "--json"])
pid = os.fork()
if not pid: os._exit(memory.nbytes - 8192 + VolatileMemory(8192).purge() % 2)
assert os.waitpid(pid, 0)[1] == 0
print(found.tier)
"""


@pytest.mark.parametrize("tier", ["faultcount", "unsupported"])
def test_a_lower_tier_never_makes_the_call_that_kills(tier: str) -> None:
    said = run_python(KILLED, env={"MVOLATILE_TIER": tier}).check().stdout
    assert said.splitlines()[-1] == tier


@pytest.mark.skipif(not os.access("/dev/userfaultfd", os.R_OK | os.W_OK), reason="needs /dev/userfaultfd")
def test_the_device_where_the_call_is_refused() -> None:
    def child() -> None:
        import os

        from support import seccomp

        seccomp.refuse(seccomp.USERFAULTFD, device=True)
        import mvolatile as mv

        found = mv.features()
        assert (found.tier, found.userfaultfd_errno, found.mechanisms["userfaultfd_device"]) == (
            "userfaultfd",
            0,
            0,
        )
        assert "/dev/userfaultfd" in found.reason
        memory = mv.VolatileMemory(8192)
        memory.write(b"x" * 8192)
        pid = os.fork()
        if not pid:
            os._exit(mv.features().tier != "userfaultfd" or memory.read(0) != b"x" * 8192)
        assert os.waitpid(pid, 0)[1] == 0
        assert memory.purge() == 8192
        assert memory.purged() == ((0, 8192),)

    run_python(child, env={"MVOLATILE_TIER": ""}).check()


def test_proc_that_shows_processes_alone(unshare: Callable[..., Wrap]) -> None:
    """What cannot be read is unknown, and not 0."""
    code = """
import json, sys
from mvolatile.cli import main
from mvolatile import features
found = features()
assert (found.ram_total, found.ram_available, found.swap_total, found.swap_free) == (None,) * 4
main(["doctor"])
"""
    said = run_python(code, wrap=unshare("--mount", "mount -t proc -o subset=pid none /proc")).check().stdout
    rows = {line[2:30].strip(): line for line in said.splitlines() if line.startswith("  ")}
    assert " 0 B" not in said
    assert [
        name
        for name, line in rows.items()
        if line.split()[-1] == "unknown" and name.split()[0] in ("memory", "swap")
    ]
    assert "subset=pid" in said
    assert "psi=1" not in said


@pytest.mark.parametrize("limit", ["none", "one", "two"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_a_fork_that_gets_no_descriptors(tier: str, limit: str) -> None:
    """RLIMIT_NOFILE, lowered by a sandbox once all is open: the child cannot open what it needs, and works even so."""
    if tier == "userfaultfd" and _core.tier() != tier:
        pytest.skip(f"the tier here is {_core.tier()}")
    story(
        f"""
def lower(count):
    "So that a child, which closes what it inherits of the library's, has `count` numbers left."
    while os.dup(1) < 30: pass                           # none below is free
    links = [(fd, os.readlink(f"/proc/self/fd/{{fd}}")) for fd in range(30)]
    ours = [fd for fd, link in links if link.endswith(("/pagemap", "/maps", "[userfaultfd]"))]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ours[count - 1] + 1 if count else 0, before[1]))
    return before
before = lower({["none", "one", "two"].index(limit)})
def child():
    assert _core.tier() == "faultcount", _core.tier()
    for memory in LOST: check(memory)
    new = filled(4 * PAGE); assert new.read(0) == pattern(4 * PAGE)
    lose_all = new.purge()
    assert lose_all in (0, 4 * PAGE) and (new.purged() == ((0, 4 * PAGE),)) == (lose_all > 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)   # and what passes, passes
    check_raw()
def check_raw():
    assert mv.mvolatile(raw.address, raw.nbytes, 0) == (raw.nbytes, 1)
    assert raw.bytes(3) == bytes(PAGE) and all(raw.whole(p) for p in range(16) if p != 3)
in_child(child)
resource.setrlimit(resource.RLIMIT_NOFILE, before)
check_all()
""",
        env={"MVOLATILE_TIER": tier},
    )


def test_a_fork_that_can_ask_nobody() -> None:
    """No descriptors, and no move_pages(2): what was volatile counts as lost, which is said, and new memory works."""
    story("""
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
seccomp.refuse(279 if os.uname().machine == "x86_64" else 239)
def child():
    assert _core.tier() == "unsupported"
    warnings.simplefilter("ignore")
    assert whole.purged() == ((0, whole.nbytes),)
    assert bytes(view) == pattern(held.nbytes) == held.read(0), "what was held is held"
    whole.write(pattern(whole.nbytes)); _core.forgive(whole)
    assert whole.read(0) == pattern(whole.nbytes)
    new = filled(4 * PAGE); assert new.read(0) == pattern(4 * PAGE) and new.purge() == 0 and new.purged() == ()
in_child(child)
""")
