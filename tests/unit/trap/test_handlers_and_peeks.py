"""Peeks are repaired whoever else wants SIGBUS, and whenever they came to want it."""

from __future__ import annotations

import signal

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="nothing traps in this tier")

CHILD = """
import ctypes, faulthandler, signal, time, zlib
from support import native
foreign = native.load("handlers")
def next_tick():    # of the coarse clock, when what foreign code did to the handler is seen
    now = time.clock_gettime(6)
    while time.clock_gettime(6) == now: pass
def must_not_run(*a): raise SystemExit("the other handler ran")
{before}
from mvolatile import Purged, VolatileMemory
from support.losing import lossy

def look():
    memory = lossy(16, lost=(1, 2, 9))
    {after}
    try:
        with memory.peek() as view:
            inside = bytes(view)
    except Purged as lost:
        assert lost.extents == ((4096, 8192), (9 * 4096, 4096)), lost.extents
    else:
        raise SystemExit("not reported")
    assert inside[4096:12288] == bytes(8192)
    assert inside[:4] == bytes(4) and inside[12288] == 3

for _ in range({rounds}):
    look()
print("good")
"""
SETUPS = {
    "faulthandler": "faulthandler.enable()",
    "signal": "signal.signal(signal.SIGBUS, lambda *a: must_not_run())",
    "signal, the same again": "signal.signal(signal.SIGBUS, must_not_run); next_tick()",
    "default": "signal.signal(signal.SIGBUS, signal.SIG_DFL); next_tick()",
    "ignored": "signal.signal(signal.SIGBUS, signal.SIG_IGN); next_tick()",
    "both": "signal.signal(signal.SIGBUS, lambda *a: must_not_run()); faulthandler.enable()",
    "enabled and disabled": "faulthandler.enable(); faulthandler.disable()",
    "registered": "faulthandler.register(signal.SIGUSR1, chain=True)",
    "foreign": "foreign.install_leaving(); next_tick()",
    "foreign, plain": "foreign.install_plain(); next_tick()",
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("setup", SETUPS)
def test_the_peek_is_repaired(setup: str, when: str) -> None:
    parts = {"before": "", "after": "", when: SETUPS[setup]}
    done = run_python(CHILD.format(**parts, rounds=3)).check()
    assert done.stdout == "good\n"
    assert done.stderr == ""


def test_handlers_come_and_go() -> None:
    after = "; ".join([SETUPS["both"], "foreign.install_leaving()", "faulthandler.disable()", "next_tick()"])
    assert run_python(CHILD.format(before="", after=after, rounds=20)).check().stdout == "good\n"


def test_what_foreign_code_did_is_seen_at_the_next_tick() -> None:
    """A peek makes no system call, so it cannot look at the handler each time. A new handler of Python's is seen
    at once (above); foreign code's, and the same one of Python's again, at the next tick of the coarse clock.
    """
    program = """
    import time
    from support import native
    from support.losing import lossy
    from mvolatile import Purged
    foreign = native.load("handlers")
    memory = lossy(16, lost=(1,))
    foreign.install_leaving()
    now = time.clock_gettime(6)
    while time.clock_gettime(6) == now: pass
    try:
        with memory.peek() as view: bytes(view)
    except Purged as lost:
        print(lost.nbytes)
    """
    assert run_python(program).check().stdout == "4096\n"


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("a thread on an alternate stack", "sum = foreign.read_on_altstack(address, pages)"),
        ("another handler", "sum = foreign.read_inside_a_handler(address, pages, 1)"),
    ],
)
@pytest.mark.parametrize("setup", ["", SETUPS["both"]])
def test_a_peek_read_from(where: str, code: str, setup: str) -> None:
    program = f"""
import ctypes, faulthandler, signal
from support import native
from support.losing import lossy
from mvolatile import Purged
must_not_run = print
{setup}
foreign = native.load("handlers")
foreign.read_on_altstack.restype = foreign.read_inside_a_handler.restype = ctypes.c_uint
pages = ctypes.c_size_t(16)
memory = lossy(16, lost=(1, 9))
address = ctypes.c_void_p(memory.address)
try:
    with memory.peek() as view:
        {code}
except Purged as lost:
    assert sum == 16 * 15 // 2 - 1 - 9, sum
    print(lost.extents)
"""
    assert run_python(program).check().stdout == "((4096, 4096), (36864, 4096))\n"


def test_a_touch_of_another_memory_is_not_repaired_by_a_peek() -> None:
    program = """
    import ctypes
    from support.losing import lossy, raw_read
    one, other = lossy(16, lost=(1,)), lossy(16, lost=(1,))
    with one.peek() as view:
        print("inside", flush=True)
        raw_read(other, 1)
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (-7, "inside\n")


def test_a_write_into_a_lost_page_inside_a_peek_is_reported() -> None:
    program = """
    import ctypes
    from support.losing import lossy
    from mvolatile import Purged
    memory = lossy(16, lost=(1,))
    try:
        with memory.peek():
            ctypes.memset(memory.address + 4096, 1, 8)
    except Purged as lost:
        print(lost.extents)
    print(memory.purged())
    """
    assert run_python(program).check().stdout == "((4096, 4096),)\n" * 2


@pytest.mark.parametrize("opened", ["here", "in another thread"])
@pytest.mark.parametrize(
    ("change", "end"),
    [
        ("signal.signal(signal.SIGBUS, print)", -signal.SIGPROF),  # the touch repeats for ever; see below
        ("signal.signal(signal.SIGBUS, signal.SIG_DFL)", -signal.SIGBUS),
        ("faulthandler.enable()", -signal.SIGBUS),
    ],
)
def test_the_limit_a_handler_changed_while_a_peek_is_open(change: str, end: int, opened: str) -> None:
    """docs/limits.md: our handler is not called, so nothing can be repaired until the next peek begins. The endless
    touch is ended by a timer of CPU time, which other programs' load does not bring closer.
    """
    program = f"""
    import faulthandler, signal, threading, zlib
    from support.losing import lossy
    memory = lossy(16, lost=(1,))
    is_open, changed = threading.Event(), threading.Event()
    def change():
        {change}
        signal.setitimer(signal.ITIMER_PROF, 0.5)
        changed.set()
    def look(meanwhile):
        with memory.peek() as view:
            is_open.set()
            meanwhile()
            zlib.crc32(view)
        print("not the limit any more", flush=True)
    if {opened == "here"}:
        look(change)
    else:
        threading.Thread(target=look, args=(changed.wait,)).start()
        is_open.wait()
        change()
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (end, "")
