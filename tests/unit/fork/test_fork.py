"""fork: child and parent each have the memory, and neither is lied to. Each story runs in both tiers."""

from __future__ import annotations

import pytest

from support.processes import Finished, run_python

TIERS = ("userfaultfd", "faultcount")

PRELUDE = """
import ctypes, os, signal, sys, time, traceback
from contextlib import suppress
from mvolatile import Purged, VolatileMemory, _core, testing
from support.libc import PAGE, pageout
from support.losing import extents_of, lossy, page_bytes, raw_read, stamped

def in_child(work):
    "Fork; the child runs `work` and must end by itself. Answers its status as subprocess does."
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)       # SIGALRM ends a child that hangs
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def whole(memory, round=0):
    with memory.pin() as view:
        return all(bytes(view[p * PAGE:(p + 1) * PAGE]) == page_bytes(p, round) for p in range(len(view) // PAGE))

def lost(memory):
    try:
        with memory.pin(): return ()
    except Purged as error:
        return error.extents
"""


def story(text: str, tier: str) -> Finished:
    return run_python(PRELUDE + text, env={"MVOLATILE_TIER": tier}).check()


both_tiers = pytest.mark.parametrize("tier", TIERS)
HUGE = pytest.mark.parametrize(("pages", "huge"), [(16, False), (1024, False), (1024, True)])


@both_tiers
@HUGE
def test_what_was_lost_before_is_lost_in_both(tier: str, pages: int, huge: bool) -> None:
    story(
        f"""
memory = stamped({pages}, huge={huge})
assert memory.purge() == {pages} * PAGE
def child():
    assert memory.purged() == ((0, {pages} * PAGE),)
    assert lost(memory) == ((0, {pages} * PAGE),)
    for attempt in (lambda: memory.read(0, 8), lambda: memory.peek().__enter__(), lambda: memoryview(memory)):
        try: attempt()
        except Purged: pass
        else: raise AssertionError("silent zeros")
    assert _core.is_valid(memory)
assert in_child(child) == 0
assert lost(memory) == ((0, {pages} * PAGE),)
assert in_child(child) == 0     # known by the parent, this time
""",
        tier,
    )


def test_a_raw_touch_in_the_child_dies() -> None:
    story(
        """
memory = lossy(16, [1])
def child():
    assert raw_read(memory, 0) == page_bytes(0)[:8]
    raw_read(memory, 1)
assert in_child(child) == -signal.SIGBUS
assert in_child(lambda: raw_read(memory, 2)) == 0
""",
        "userfaultfd",
    )


def test_a_c_fork_whose_child_never_sees_python() -> None:
    """The fork handlers run in libc's fork(), whoever calls it."""
    story(
        """
from support import native
foreign = native.load("handlers")
memory = lossy(16, [1])
for page, status in ((1, -signal.SIGBUS), (3, 3)):
    pid = foreign.fork_and_touch(ctypes.c_void_p(memory.address + page * PAGE))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
""",
        "userfaultfd",
    )


@both_tiers
def test_libc_fork_from_ctypes(tier: str) -> None:
    story(
        """
libc = ctypes.PyDLL(None)
memory = lossy(16, [1])
pid = libc.fork()
if pid == 0:
    signal.alarm(200)
    os._exit(0 if lost(memory) == ((PAGE, PAGE),) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        tier,
    )


@both_tiers
def test_multiprocessing(tier: str) -> None:
    story(
        """
import multiprocessing
context = multiprocessing.get_context("fork")
memory, whole_one = lossy(16, [1]), stamped(16)
def work(queue):
    queue.put((lost(memory), whole(whole_one)))
queue = context.Queue()
process = context.Process(target=work, args=(queue,))
process.start()
assert queue.get() == (((PAGE, PAGE),), True)
process.join()
assert process.exitcode == 0
queue.close(); queue.join_thread()
with context.Pool(2) as pool:
    assert pool.map(len, [b"abc"] * 4) == [3] * 4
""",
        tier,
    )


@both_tiers
@HUGE
def test_child_and_parent_go_on_independently(tier: str, pages: int, huge: bool) -> None:
    story(
        f"""
memory = stamped({pages}, huge={huge})
ready, go = os.pipe(), os.pipe()
def child():
    memory.write(b"".join(page_bytes(p, 7) for p in range({pages})))
    assert whole(memory, 7)
    assert memory.purge() == {pages} * PAGE     # its own pages now, and its own mark
    assert lost(memory) == ((0, {pages} * PAGE),)
    memory.pin(on_purge="zero").__enter__()
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    for round in (1, 2, 3):
        memory.write(b"".join(page_bytes(p, round) for p in range({pages})))
        assert whole(memory, round)
        assert _core.is_valid(memory)
pid = os.fork()
if pid == 0:
    signal.alarm(200)
    try:
        child()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
os.read(ready[0], 1)
assert whole(memory), "what the child lost, the parent has"
generation = memory.generation
assert memory.purge() == {pages} * PAGE
assert lost(memory) and memory.generation == generation + 1
memory.pin(on_purge="zero").__enter__()
os.write(go[1], b"x")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        tier,
    )


@both_tiers
@HUGE
def test_a_pin_in_either_keeps_the_pages_from_the_others_purge(tier: str, pages: int, huge: bool) -> None:
    """`MADV_PAGEOUT` leaves pages alone that other processes share; `tests/pressure` has the kernel decide."""
    story(
        f"""
memory = stamped({pages}, huge={huge})
with memory.pin() as view:      # over the fork: both hold it
    def child():
        assert _core.pins(memory) == 1
        pageout(memory.address, len(memory))
        assert bytes(view[-PAGE:]) == page_bytes({pages} - 1)
    assert in_child(child) == 0
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(200)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0 if all(bytes(view[p * PAGE:(p + 1) * PAGE]) == page_bytes(p) for p in range({pages})) else 1)
    os.read(ready[0], 1)
    view.release()
# Ours is volatile again; the child's is held.
memory.purge()
before = memory.purged()
assert before == (), before
os.write(go[1], b"x")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert whole(memory), "shared with a holder, so nothing went"
assert memory.purge() == {pages} * PAGE, "nobody shares it any more"
assert lost(memory) == ((0, {pages} * PAGE),)
""",
        tier,
    )


@both_tiers
@HUGE
def test_a_chain_of_three_processes(tier: str, pages: int, huge: bool) -> None:
    story(
        f"""
memory, held = stamped({pages}, huge={huge}), stamped({pages}, huge={huge})
def grandchild():
    assert lost(memory) == ((0, {pages} * PAGE),)
    assert whole(held)
    assert _core.pins(held) == 1      # the pin was there when we were made
    pageout(held.address, len(held))
    assert whole(held)
    memory.write(b"".join(page_bytes(p, 9) for p in range({pages})))
    assert whole(memory, 9)
def child():
    assert whole(memory) and whole(held)
    testing.purge(memory)       # shared with the parent, where it is volatile as well
    if not memory.purged():     # a page the parent holds in a way of its own: write, then it is ours
        memory.write(b"".join(page_bytes(p, 8) for p in range({pages})))
        assert memory.purge() == {pages} * PAGE
    assert lost(memory) == ((0, {pages} * PAGE),)
    assert in_child(grandchild) == 0
    assert lost(memory) == ((0, {pages} * PAGE),)
    memory.write(b"".join(page_bytes(p, 3) for p in range({pages})))
    assert in_child(lambda: whole(memory, 3) or os._exit(1)) == 0
    assert whole(memory, 3)
with held.pin():
    assert in_child(child) == 0
    assert whole(held)
assert lost(memory) in ((), ((0, {pages} * PAGE),))
assert _core.is_valid(memory) and _core.is_valid(held)
""",
        tier,
    )


@both_tiers
def test_closing_in_the_child_leaves_the_parents_memory(tier: str) -> None:
    story(
        """
memories = [stamped(16) for _ in range(50)] + [stamped(1024)]
def child():
    for memory in memories[::2]:
        memory.close()
    fresh = [stamped(16) for _ in range(60)]
    assert all(map(whole, fresh)) and all(map(whole, memories[1::2]))
assert in_child(child) == 0
assert all(map(whole, memories))
for memory in memories: memory.close()
""",
        tier,
    )


@both_tiers
def test_the_raw_call(tier: str) -> None:
    story(
        """
import mvolatile as mv
from support.libc import Anonymous, missing
with Anonymous(32 * PAGE) as raw:
    raw.fill()
    call = lambda mode, first=0, pages=32: mv.mvolatile(raw.address + first * PAGE, pages * PAGE, mode)[1]
    call(mv.MVOLATILE_VOLATILE)
    pageout(raw.address, 8 * PAGE)
    assert missing(raw.address, raw.length) == list(range(8))
    def child():
        assert call(mv.MVOLATILE_NONVOLATILE, 8, 24) == 0, "those were there"
        assert call(mv.MVOLATILE_NONVOLATILE, 0, 8) == 1, "these were lost before the fork"
        assert raw.read(0) == bytes(8) and raw.read(8, 4) == b"full"
        raw.fill(b"mine")
        call(mv.MVOLATILE_VOLATILE)
        pageout(raw.address, raw.length)
        assert call(mv.MVOLATILE_NONVOLATILE) == 1
    assert in_child(child) == 0
    assert raw.read(9, 4) == b"full"
    assert call(mv.MVOLATILE_NONVOLATILE, 8, 24) == 0
    assert call(mv.MVOLATILE_NONVOLATILE, 0, 8) == 1
""",
        tier,
    )


def test_a_raw_touch_of_raw_memory_in_the_child_dies() -> None:
    story(
        """
import mvolatile as mv
from support.libc import Anonymous
with Anonymous(16 * PAGE) as raw:
    raw.fill()
    mv.mvolatile(raw.address, raw.length, mv.MVOLATILE_VOLATILE)
    pageout(raw.address, 4 * PAGE)
    assert in_child(lambda: raw.read(2)) == -signal.SIGBUS
    assert in_child(lambda: raw.read(5)) == 0
    assert mv.mvolatile(raw.address, raw.length, mv.MVOLATILE_NONVOLATILE)[1] == 1
""",
        "userfaultfd",
    )


@both_tiers
def test_a_program_that_closes_all_descriptors_loses_nothing(tier: str) -> None:
    """As daemons do. What is purged while nobody watches must be reported all the same."""
    story(
        """
memories = [stamped(16, name="small"), stamped(1024, name="large"), stamped(1024, name="flat", huge=False)]
early = lossy(16, [3])
import mvolatile as mv
from support.libc import Anonymous
raw = Anonymous(16 * PAGE)
raw.fill()
mv.mvolatile(raw.address, raw.length, mv.MVOLATILE_VOLATILE)
os.closerange(3, 256)
for memory in memories:
    pageout(memory.address, 4 * PAGE)
    raw_read(memory, 1)                         # reads as zeros now: nothing traps
pageout(raw.address, 4 * PAGE)
others = [open("/dev/null") for _ in range(8)]  # the old numbers belong to somebody else
time.sleep(0.02)                                # the next tick of the coarse clock
for memory in memories:
    found = lost(memory)
    assert found and found[0][0] == 0, (memory, found)
assert lost(early) == ((3 * PAGE, PAGE),)
assert mv.mvolatile(raw.address, raw.length, mv.MVOLATILE_NONVOLATILE)[1] == 1
assert all(file.read() == "" for file in others)
for memory in memories:                         # and all goes on
    memory.write(b"".join(page_bytes(p, 2) for p in range(len(memory) // PAGE)))
    assert whole(memory, 2) and memory.purge() and lost(memory) and _core.is_valid(memory)
assert in_child(lambda: [lost(memory) or os._exit(1) for memory in memories]) == 0
""",
        tier,
    )


@both_tiers
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_beside_a_thread_that_rebuilds(fork: str, tier: str) -> None:
    """The child does not have that thread, which has the lock under which one rebuilds. Nor has the child's child."""
    story(
        f"""
import threading
os.fork = {fork}
inside, go_on = threading.Event(), threading.Event()
memory = lossy(16, [1])
def slow(view, extents):
    inside.set()
    assert go_on.wait(200)
    view[:] = b"slow" * (len(view) // 4)
def quick(view, extents):
    assert extents == ((PAGE, PAGE),)
    view[:] = b"quik" * (len(view) // 4)
def hold(rebuild):
    with memory.pin(on_purge=rebuild) as view: return bytes(view[:4])
rebuilder = threading.Thread(target=hold, args=(slow,))
rebuilder.start()
assert inside.wait(200)
def child():
    assert in_child(lambda: hold(quick) == b"quik" or sys.exit(1)) == 0
    assert hold(quick) == b"quik"
assert in_child(child) == 0

# The parent's lock is the same as before.
waits = threading.Thread(target=hold, args=(quick,))
waits.start()
time.sleep(0.1)
assert waits.is_alive()
go_on.set()
waits.join(), rebuilder.join()
assert hold(quick) == b"slow"
""",
        tier,
    )
