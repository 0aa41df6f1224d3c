"""The library's own threads have every signal blocked and touch nothing that traps: peeks stay peeks beside them."""

from __future__ import annotations

import os

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="nothing traps in this tier")

PROGRAM = """
import os, signal, threading, time
import mvolatile as mv
from mvolatile import _core
from support.losing import stamped

whole = stamped(16)
def pins_of_a_peek():
    with whole.peek() as view: return _core.pins(whole)
def next_tick():    # of the coarse clock, when threads are looked at
    now = time.clock_gettime(6)
    while time.clock_gettime(6) == now: pass
def remain(pins, looks=20):
    for _ in range(looks):
        next_tick()
        assert pins_of_a_peek() == pins
def become(pins):
    while pins_of_a_peek() != pins: pass
def listening():
    fifo = f"/tmp/own-threads-{os.getpid()}"
    if not os.path.exists(fifo): os.mkfifo(fifo)
    return _core.Listener(((3, fifo.encode(), b"", b""),))
def threads(): return len(os.listdir("/proc/self/task"))
def block():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    go = threading.Event()
    threading.Thread(target=go.wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return go
try:
    {body}
finally:
    try: os.remove(f"/tmp/own-threads-{os.getpid()}")
    except FileNotFoundError: pass
"""


def run(body: str) -> None:
    run_python(PROGRAM.replace("{body}", body.strip().replace("\n", "\n    ")), timeout=100).check()


def test_beside_a_cache_that_listens() -> None:
    run("""
cache = mv.VolatileCache()
cache["a value"] = bytes(100_000)
assert threads() > 1
become(0)
remain(0)
assert cache["a value"] == bytes(100_000)
""")


def test_beside_many_listeners() -> None:
    run("""
listeners = [listening() for _ in range(40)]
assert threads() == 41
become(0)
remain(0)
del listeners[::2]
become(0)
remain(0)
""")


def test_another_thread_that_blocks_is_seen_beside_them() -> None:
    run("""
listener = listening()
become(0)
go = block()
become(1)
remain(1)
go.set()
become(0)
""")


@pytest.mark.skipif(
    not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK), reason="root alone chooses numbers"
)
def test_the_number_of_one_that_ended_is_anybodys() -> None:
    """Whoever has it next is looked at: the list forgets a thread before it ends."""
    run("""
listener = listening()
number, = {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}
del listener
while threads() > 1: time.sleep(0.01)
while True:    # others start processes meanwhile
    with open("/proc/sys/kernel/ns_last_pid", "w") as last: last.write(str(number - 1))
    go = block()
    if os.path.exists(f"/proc/self/task/{number}"): break
    go.set()
    while threads() > 1: time.sleep(0.01)
become(1)
""")


def test_a_child_has_none_of_them() -> None:
    run("""
listener = listening()
become(0)
pid = os.fork()
if not pid:
    try:
        assert threads() == 1
        remain(0)
        own = listening()
        become(0)
        remain(0)
        go = block()
        become(1)
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
""")
