"""A program that closes all descriptors, as daemons do, and opens files of its own, which get the numbers: nothing of
the library's acts on them, and it goes on, whichever call comes first.
"""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is open")

PRELUDE = """
import fcntl, os, socket, struct, sys
import mvolatile as mv
from mvolatile import Purged, VolatileMemory, _core
from support.areas import Area, libc_call
from support.memories import PAGE, filled, lose, pattern
from support.seccomp import USERFAULTFD

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})     # or reclaim may find pages on another CPU's lists

def foreign_userfaultfd():
    fd = libc_call("syscall", USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | 1)
    fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))   # without SIGBUS: a touch waits for ever
    return fd

MAKE = {
    "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "socket": lambda: socket.socketpair()[0].detach(),
    "pipe": lambda: os.pipe()[0],
    "eventfd": lambda: os.eventfd(0),
    "userfaultfd": foreign_userfaultfd,
    "nothing": None,
}

def identity(fd):
    found = os.fstat(fd)
    return found.st_dev, found.st_ino

def close_all_and_open(kind):
    os.closerange(3, 250)
    if MAKE[kind] is None: return {}
    return {fd: identity(fd) for fd in [MAKE[kind]() for _ in range(8)]}

old, lossy = filled(16 * PAGE), filled(16 * PAGE); lose(lossy, [(PAGE, PAGE)])
base = filled(1 << 20, huge=False); lose(base, [(PAGE, PAGE)])
raw = Area(8); raw.fill(); mv.mvolatile(raw.address, raw.nbytes, 1); raw.reclaim(3, 1)
held = VolatileMemory(4 << 20); hold = held.pin(write=True); hold.__enter__()[:] = b"h" * (4 << 20)

def new(): assert filled(2 * PAGE).read(0) == pattern(2 * PAGE)
def big(): assert filled(4 << 20).read(0) == pattern(4 << 20)
def read(): assert old.read(0) == pattern(16 * PAGE)
def peek():
    with old.peek() as view: assert bytes(view) == pattern(16 * PAGE)
def pin():
    try:
        with base.pin(): raise AssertionError("silent zeros")
    except Purged as error: assert error.extents == ((PAGE, PAGE),), error
def purged(): assert lossy.purged() == ((PAGE, PAGE),)
def write(): lossy.write(b"x"); assert lossy.read(0, 1) == b"x"
def purge():
    one = filled(4 * PAGE)
    assert one.purge() == 4 * PAGE and one.purged() == ((0, 4 * PAGE),)
def unmark():
    assert mv.mvolatile(raw.address, raw.nbytes, 0) == (raw.nbytes, 1)
    raw.fill(); assert mv.mvolatile(raw.address, raw.nbytes, 1) == (raw.nbytes, 0)
    raw.reclaim(3, 1)
def unpin():
    hold.__exit__(None, None, None)
    assert _core.is_volatile(held) and held.read(0, 2) == b"hh"
    hold.__enter__()
def close(): VolatileMemory(PAGE).close(); VolatileMemory(4 << 20).close()
def status(): assert mv.status().raw == raw.nbytes
def fork():
    pid = os.fork()
    if not pid:
        status = 1
        try:
            for one in (new, read, pin, unmark, purged): one()
            status = 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally: os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""

CALLS = (
    "new",
    "big",
    "read",
    "peek",
    "pin",
    "purged",
    "write",
    "purge",
    "unmark",
    "unpin",
    "close",
    "status",
    "fork",
)
KINDS = ("file", "socket", "pipe", "eventfd", "userfaultfd", "nothing")


def story(text: str, tier: str) -> None:
    if tier == "userfaultfd" and _core.tier() != tier:
        pytest.skip(f"the tier here is {_core.tier()}")
    run_python(PRELUDE + text, env={"MVOLATILE_TIER": tier}).check()


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize("first", CALLS)
def test_whichever_call_comes_first(first: str, tier: str) -> None:
    rest = [one for one in CALLS if one != first]
    kind = KINDS[CALLS.index(first) % len(KINDS)]
    story(
        f"""
foreign = close_all_and_open({kind!r})
for one in ({first}, {", ".join(rest)}): one()
assert _core.tier() == {tier!r}
assert {{fd: identity(fd) for fd in foreign}} == foreign, "the program's own files are as they were"
""",
        tier,
    )


@pytest.mark.parametrize("kind", ["userfaultfd", "eventfd"])
@pytest.mark.parametrize("first", ["new", "pin", "unmark", "fork"])
def test_whatever_gets_the_numbers(kind: str, first: str) -> None:
    """Another's userfaultfd above all: it obeys every request, and whoever touches what it watches waits for ever."""
    story(
        f"""
foreign = close_all_and_open({kind!r})
{first}(); pin()
assert {{fd: identity(fd) for fd in foreign}} == foreign
for fd in foreign:
    if {kind!r} == "userfaultfd":   # it watches nothing of ours
        for memory in (old, lossy, base, held):
            try: fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("QQQQ", memory.address, PAGE, 1, 0)))
            except OSError: pass
            else:
                fcntl.ioctl(fd, 0x8010AA01, bytearray(struct.pack("QQ", memory.address, PAGE)))
                assert memory in (held, base), "ours is watched by us"
for _ in range(2):
    for one in (read, pin, purged, unmark): one()
""",
        "userfaultfd",
    )


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_again_and_again(tier: str) -> None:
    story(
        """
for kind in ("file", "eventfd", "userfaultfd", "nothing", "pipe"):
    foreign = close_all_and_open(kind)
    for one in (new, pin, unmark, purged): one()
    assert {fd: identity(fd) for fd in foreign} == foreign
""",
        tier,
    )


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_descriptors_that_cannot_be_opened_again(tier: str) -> None:
    """The program closes all and takes all numbers that it may have: right answers, or the error that says so."""
    story(
        """
import errno, resource
foreign = close_all_and_open("nothing")
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for _ in range(2):
    for one in (new, read, pin, purged, purge): one()
try: unmark()
except OSError as error: assert error.errno == errno.EMFILE, error
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for one in (new, read, pin, purged, purge, unmark): one()
""",
        tier,
    )
