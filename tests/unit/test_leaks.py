"""What is given back: descriptors, threads, mappings and address space, by everything the library offers."""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import mvolatile as mv
from mvolatile import NotWhole, Purged, VolatileMemory, testing
from support.areas import Area
from support.leaks import assert_no_growth
from support.memories import HUGE, PAGE, filled, pattern

pytestmark = pytest.mark.filterwarnings("ignore::mvolatile.UnsupportedKernelWarning")


def _use_every_method(nbytes: int) -> None:
    with VolatileMemory(nbytes, "leaks", fill="zero") as memory:
        memory.write(pattern(nbytes))
        memory.purge()
        memory.purged()
        memory.resident()
        repr(memory)
        memory.read(0)
        memory.readinto(bytearray(nbytes))
        with memory.pin(write=True) as view, memory.peek() as other:
            view[0] = other[0]
        with suppress(NotWhole), memory.peek() as view:
            bytes(view)
        bytes(memory)
        mv.status()


def _fail() -> None:
    with filled(9 * PAGE) as memory:
        testing.purge(memory)

        def rebuild(view: memoryview, extents: object) -> None:
            raise KeyError

        with suppress(KeyError, Purged), memory.pin(on_purge=rebuild):
            pass
        with suppress(NotWhole), memory.peek() as view:
            bytes(view)
        with suppress(BufferError), memory.pin(on_purge="zero"):
            memory.close()
        with suppress(OSError):
            mv.mvolatile(memory.address, PAGE, 1)
    with suppress(OSError):
        VolatileMemory(2**62)
    with suppress(ValueError):
        VolatileMemory(0)


def _raw() -> None:
    with Area(16) as area:
        area.fill()
        for page in range(0, 16, 2):
            mv.mvolatile(area.address + page * PAGE, PAGE, 1)
        area.reclaim()
        mv.mvolatile(area.address, area.nbytes, 0)
        mv.mvolatile(area.address, area.nbytes, 1)  # left marked, and unmapped


def _threads() -> None:
    with filled(4 * PAGE) as memory:

        def use() -> None:
            for _ in range(5):
                with suppress(NotWhole), memory.peek() as view:
                    bytes(view)
                memory.write(b"x")

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _purging() -> None:
    with testing.purging(1), VolatileMemory(3 * PAGE, fill="zero") as memory:
        memory.write(pattern(3 * PAGE))
        memory.read(0)


def _forget() -> None:
    """Nobody closes: the finalizer does, also in a cycle."""

    class Cycle:
        def __init__(self) -> None:
            self.memory = filled(3 * PAGE)
            self.view = memoryview(self.memory)
            self.me = self

    Cycle()
    filled(HUGE)
    gc.collect()


can_purge = pytest.mark.skipif(not mv.features().can_purge, reason="nothing is ever purged here")


@pytest.mark.parametrize(
    ("action", "rounds"),
    [
        pytest.param(lambda: _use_every_method(9 * PAGE - 5), 50, id="small"),
        pytest.param(lambda: _use_every_method(HUGE + PAGE), 20, id="large"),
        pytest.param(_fail, 50, id="failures"),
        pytest.param(_raw, 50, id="raw"),
        pytest.param(_threads, 100, id="threads"),  # once, the stacks and arenas of as many as run at a time
        pytest.param(_purging, 50, id="purging", marks=can_purge),
        pytest.param(_forget, 30, id="forgotten"),
        pytest.param(mv.features, 30, id="features"),
    ],
)
def test_nothing_grows(action: Callable[[], object], rounds: int) -> None:
    assert_no_growth(action, rounds)


def _kib(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0])


@pytest.mark.parametrize(("nbytes", "rounds"), [(PAGE, 200), (300 * PAGE, 100), (4 * HUGE, 20)])
def test_memory_and_address_space_do_not_grow(nbytes: int, rounds: int) -> None:
    """A leak of one memory in ten shows, if the memories are large."""

    def use() -> None:
        with VolatileMemory(nbytes) as memory:
            memory.write(data)
            memory.purge()
            memory.purged()

    data = pattern(nbytes)
    for _ in range(5):
        use()
    gc.collect()
    before = _kib("VmSize"), _kib("VmRSS")
    for _ in range(rounds):
        use()
    allowed = max(nbytes * rounds // 10, 8 << 20) // 1024
    assert _kib("VmSize") - before[0] < allowed
    assert _kib("VmRSS") - before[1] < allowed


def test_arrays() -> None:
    numpy = pytest.importorskip("numpy")

    def use() -> None:
        with mv.array(numpy.arange(5000)) as made:
            copy = numpy.asarray(made)[5:]
            del copy
            made.read()
            with made.pin(write=True) as view:
                view[0] = 1
                del view

    assert_no_growth(use)


def test_the_check_itself_sees_a_leak() -> None:
    kept: list[mmap.mmap] = []

    def leak() -> None:
        # Every other page protected: neighbours do not merge.
        kept.append(mmap.mmap(-1, PAGE, prot=mmap.PROT_READ))
        kept.append(mmap.mmap(-1, PAGE))

    with pytest.raises(AssertionError, match="mappings grew"):
        assert_no_growth(leak)
    for one in kept:
        one.close()
