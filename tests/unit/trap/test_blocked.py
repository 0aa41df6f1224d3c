"""The kernel kills a thread for a trap while it blocks SIGBUS. Such a thread reads by a pin, and is told the same."""

from __future__ import annotations

import textwrap

import pytest

from mvolatile import _core
from support.processes import run_python

pytestmark = pytest.mark.skipif(_core.tier() != "userfaultfd", reason="nothing traps in this tier")

SETUP = """
import os, signal, threading, time, zlib
def next_tick():    # of the coarse clock, when a change of the mask is seen
    now = time.clock_gettime(6)
    while time.clock_gettime(6) == now: pass
def block(): signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
def unblock(): signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGBUS])
{first}
import mvolatile as mv
from mvolatile import _core
from mvolatile.cache.engine import engine_of
from support.losing import lossy, page_bytes, stamped

def reported(look, memory=None):
    memory = memory or lossy(lost=(1, 2))
    {then}
    try: look(memory)
    except mv.Purged: return True

def crc(memory):
    with memory.peek() as view: zlib.crc32(view)

def pins_of_a_peek(memory):
    with memory.peek(): return _core.pins(memory)

def array():
    array = mv.array(range(2048))
    assert array.purge()
    return array

def summed(array):
    with array.peek() as values: values.sum()

def a_miss():
    cache = mv.VolatileCache()
    cache.update({{number: b"value" * 100 for number in range(1000)}})
    engine_of(cache).change(engine_of(cache).store.seal_all)
    assert cache[3] == b"value" * 100
    assert sum(memory.purge() for memory in mv.memory.live_memories())
    {then}
    return cache.get(3) is None

def story():
    {before}
    {body}
    good.append(True)

good = []
thread = threading.Thread(target=story)
thread.start()
thread.join()
os._exit(not good)
"""
LOOKS = {
    "read": "reported(lambda memory: memory.read(4096, 100))",
    "read, large": "reported(lambda memory: memory.read(0), lossy(1000))",
    "readinto": "reported(lambda memory: memory.readinto(bytearray(4096), 4096))",
    "peek": "reported(crc)",
    "read of an array": "reported(lambda array: array.read(), array())",
    "peek of an array": "reported(summed, array())",
    "hit of a cache": "a_miss()",
}
WHEN = {
    "before the first use": {"first": "block()"},
    "in a thread that used none": {"before": "block()"},
    "later": {"then": "block(); next_tick()"},
}


def run(body: str, **parts: str) -> None:
    parts = {"first": "", "before": "", "then": "", **parts, "body": textwrap.indent(body, "    ").strip()}
    run_python(SETUP.format(**parts)).check()


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("look", LOOKS)
def test_nobody_dies(look: str, when: str) -> None:
    run(f"assert {LOOKS[look]}", **WHEN[when])


def test_a_large_read_asks_the_kernel_itself() -> None:
    """It takes longer than asking does, so it does not rely on what was true at the last tick."""
    run(f"assert {LOOKS['read, large']}", then="block()")


def test_what_is_whole_is_read_and_seen_by_a_pin_until_it_is_unblocked() -> None:
    body = """
memory = stamped(16)
assert pins_of_a_peek(memory) == 0
block(); next_tick()
assert pins_of_a_peek(memory) == 1
assert memory.read(4096, 8) == page_bytes(1)[:8]
assert _core.pins(memory) == 0 and _core.is_volatile(memory)
unblock()
while pins_of_a_peek(memory): pass
assert reported(crc)
"""
    run(body)


def test_other_threads_read_as_before() -> None:
    body = """
helper = threading.Thread(target=block)
helper.start()
helper.join()
while pins_of_a_peek(stamped(16)): pass    # until it is seen that the thread has ended
assert reported(crc)
"""
    run(body)


def test_a_peek_of_a_blocked_thread_sees_writers() -> None:
    body = """
block()
memory = stamped(16)
writer = threading.Thread(target=memory.write, args=(b"new",))
try:
    with memory.peek() as view:
        bytes(view)
        writer.start()
        writer.join()
except mv.Overwritten: pass
else: raise AssertionError("a mixture was believed")
"""
    run(body)
