"""Base pages in the hundreds are held by touching them, and a touch of a missing page is a SIGBUS of our own making."""

from __future__ import annotations

import itertools
import random
import threading

import pytest

import mvolatile as mv
from mvolatile import testing
from support.libc import PAGE, pageout
from support.processes import run_python

PAGES = 256

pytestmark = pytest.mark.skipif(
    mv.features().tier != "userfaultfd", reason="only memory that traps is held by touching"
)


def stamp(page: int, round_: int = 0) -> bytes:
    return (page + 1).to_bytes(4, "little") + round_.to_bytes(4, "little")


def stamped(pages: int = PAGES) -> mv.VolatileMemory:
    memory = mv.VolatileMemory(pages * PAGE, huge=False)
    with memory.pin(write=True) as view:
        for page in range(pages):
            view[page * PAGE : page * PAGE + 8] = stamp(page)
    return memory


@pytest.mark.parametrize("gone", [[(0, 1)], [(PAGES - 1, 1)], [(3, 2), (100, 50)], [(0, PAGES)]])
def test_a_loss_is_exact_and_one(gone: list[tuple[int, int]]) -> None:
    with stamped() as memory:
        extents = tuple((first * PAGE, count * PAGE) for first, count in gone)
        assert testing.purge(memory, extents) == sum(length for _, length in extents)
        with pytest.raises(mv.Purged) as lost, memory.pin():
            pass
        assert lost.value.extents == extents
        assert memory.generation == 1
        with memory.pin(on_purge="zero") as view:
            for page in range(PAGES):
                here = bytes(view[page * PAGE : page * PAGE + 8])
                missing = any(first <= page < first + count for first, count in gone)
                assert here == (bytes(8) if missing else stamp(page))


def test_what_was_touched_is_held() -> None:
    """A touch that only read would leave the pages to reclaim."""
    with stamped() as memory, memory.pin():
        pageout(memory.address, memory.nbytes)
        assert memory.resident() == memory.nbytes


SETUP = f"""
import ctypes, signal, sys
import mvolatile as mv
memory = mv.VolatileMemory({PAGES * PAGE}, huge=False)
memory.write(b"x" * {PAGES * PAGE})
assert memory.purge() == {PAGES * PAGE}
"""
PIN = f"""
try:
    with memory.pin(): pass
except mv.Purged as lost:
    assert lost.extents == ((0, {PAGES * PAGE}),)
    sys.exit(0)
sys.exit("nothing was reported")
"""


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])", id="blocked"),
        pytest.param("signal.signal(signal.SIGBUS, signal.SIG_DFL)", id="default"),
        pytest.param("ctypes.CDLL(None).signal(7, None)", id="default-behind-our-back"),
        pytest.param("ctypes.CDLL(None).signal(7, ctypes.c_void_p(1))", id="ignored-behind-our-back"),
    ],
)
def test_nobody_dies_where_the_trap_would_not_catch(before: str) -> None:
    """The kernel kills for a SIGBUS that is blocked; another's handler kills, or returns and faults for ever."""
    run_python(SETUP + before + PIN).check()


def test_each_page_is_whole_or_reported_while_reclaim_works_on_it() -> None:
    memory, stop, failures = stamped(), threading.Event(), list[str]()

    def purger() -> None:
        source = random.Random(7)
        while not stop.is_set():
            first = source.randrange(PAGES)
            count = min(source.randint(1, 8), PAGES - first)
            pageout(memory.address + first * PAGE, count * PAGE)

    thread = threading.Thread(target=purger)
    thread.start()
    lost_pages = 0
    try:
        for round_ in itertools.count(1):
            gone: set[int] = set()

            def note(view: memoryview, extents: mv.errors.Extents, gone: set[int] = gone) -> None:
                for offset, length in extents:
                    gone.update(range(offset // PAGE, (offset + length) // PAGE))

            with memory.pin(write=True, on_purge=note) as view:
                for page in range(PAGES):
                    here = bytes(view[page * PAGE : page * PAGE + 8])
                    if here != (bytes(8) if page in gone else stamp(page, round_ - 1)):
                        failures.append(f"round {round_}, page {page}: {here!r}, lost: {page in gone}")
                    view[page * PAGE : page * PAGE + 8] = stamp(page, round_)
            lost_pages += len(gone)
            if failures or (round_ >= 400 and lost_pages):
                break
    finally:
        stop.set()
        thread.join()
    assert not failures, failures[:5]
    memory.close()
