"""Worker threads of other libraries that block every signal: the kernel kills the process for a trap of theirs. While
there is one, a peek is a pin.
"""

from __future__ import annotations

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="nothing traps in this tier")

PROGRAM = """
import ctypes, os, queue, signal, threading, time
import mvolatile as mv
from mvolatile import _core
from support.losing import lossy, stamped

class Worker:
    # Another library's, that works on the addresses it is given.
    def __init__(self, blocked=signal.valid_signals(), name=b""):
        self.name = name
        self.calls, self.answers = queue.Queue(), queue.Queue()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    def work(self):
        if self.name: ctypes.CDLL(None).prctl(15, self.name)    # PR_SET_NAME
        while (call := self.calls.get()) is not None:
            self.answers.put(ctypes.string_at(*call))
    def read(self, address, length):
        self.calls.put((address, length))
        return self.answers.get()
    def end(self):
        self.calls.put(None)
        self.thread.join()

def names(): return [open(f"/proc/self/task/{number}/comm").read().strip() for number in os.listdir("/proc/self/task")]
def pins_of_a_peek():
    with whole.peek() as view: return memoryview(view).nbytes and _core.pins(whole)
def wait_for(pins):
    while pins_of_a_peek() != pins: pass
def remain(pins, looks=20):
    for _ in range(looks):
        now = time.clock_gettime(6)    # the coarse clock, at whose ticks threads are looked at
        while time.clock_gettime(6) == now: pass
        assert pins_of_a_peek() == pins
def purged(worker, memory):
    try:
        with memory.peek() as view:
            worker.read(memory.address, memory.nbytes)
    except mv.Purged as lost:
        return lost.extents
whole = stamped(16)
{body}
"""


def run(body: str) -> None:
    run_python(PROGRAM.replace("{body}", body), timeout=100).check()


@pytest.mark.parametrize("blocked", ["signal.valid_signals()", "[signal.SIGBUS]"])
def test_a_loss_is_told_and_nobody_dies(blocked: str) -> None:
    body = f"""
worker = Worker({blocked})
wait_for(1)
for _ in range(5):
    memory = lossy(16, lost=(1, 2))
    assert purged(worker, memory) == ((4096, 8192),)
with whole.peek() as view: assert worker.read(whole.address, whole.nbytes) == bytes(view)
"""
    run(body)


def test_a_worker_that_comes_later_and_ends() -> None:
    body = """
assert pins_of_a_peek() == 0
worker = Worker()
wait_for(1)
assert purged(worker, lossy(16, lost=(1, 2))) == ((4096, 8192),)
array = mv.array(range(4096))
with array.peek() as values: assert _core.pins(array.memory) == 1 and values[7] == 7
del values
assert whole.read(4096, 4) == bytes([1, 0, 0, 0]) and not _core.pins(whole) and _core.is_volatile(whole)
worker.end()
wait_for(0)
"""
    run(body)


def test_workers_that_block_other_signals_do_not_matter() -> None:
    body = """
workers = [Worker([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]) for _ in range(3)]
remain(0)
for worker in workers: assert purged(worker, lossy(16, lost=(1, 2))) == ((4096, 8192),)
"""
    run(body)


def test_parentheses_in_names_of_threads_confuse_nobody() -> None:
    """The name stands before the mask in what the kernel tells, in parentheses, and may hold some."""
    body = """
libc = ctypes.CDLL(None)
worker = Worker([])
for name in b") S 1 1 1", b"a) R (b) 7 7", b"(((":
    libc.prctl(15, name)
    remain(0, looks=3)
blocked = Worker()
wait_for(1)
"""
    run(body)


def test_jemallocs_own_thread_does_not_matter() -> None:
    """PyArrow and Polars bring it along, and so pandas: it gives free pages back, and reads nobody's data."""
    body = """
worker = Worker(name=b"jemalloc_bg_thd")
worker.read(id(None), 1)    # it has its name
remain(0)
other = Worker(name=b"jemalloc_bg_th")
wait_for(1)
"""
    run(body)


@pytest.mark.parametrize(("library", "made"), [("pyarrow", "array"), ("polars", "Series")])
def test_libraries_with_a_jemalloc(library: str, made: str) -> None:
    pytest.importorskip(library)
    body = f"""
import {library}
kept = {library}.{made}([1] * 100_000)
while "jemalloc_bg_thd" not in names(): pass
remain(0)
"""
    run(body)


def test_threads_of_the_kernels_do_not_matter() -> None:
    """io_uring's are in the process's list, with all signals blocked: what they touch in vain is an error of a call."""
    body = """
parameters = (ctypes.c_uint * 30)()
parameters[2], parameters[4] = 1 << 1, 600_000    # IORING_SETUP_SQPOLL, and how long its thread stays, in ms
if ctypes.CDLL(None).syscall(425, 4, ctypes.byref(parameters)) < 0: raise SystemExit(77)
while not any(name.startswith("iou-") for name in names()): pass
remain(0)
worker = Worker()
wait_for(1)
"""
    done = run_python(PROGRAM.replace("{body}", body), timeout=100)
    if done.returncode == 77:
        pytest.skip("io_uring is refused")
    done.check()


def test_a_child_has_none_of_its_parents_threads() -> None:
    body = """
worker = Worker()
wait_for(1)
pid = os.fork()
if not pid:
    wait_for(0)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
wait_for(1)
"""
    run(body)


def test_many_threads_cost_little() -> None:
    """All of them are looked at, if more seldom."""
    body = """
others = [Worker([]) for _ in range(150)]
assert pins_of_a_peek() == 0
worker = Worker()
wait_for(1)
"""
    run(body)
