"""mvolatile() beside others who change the same memory, and where the kernel has no mapping left to give."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mvolatile as mv
from mvolatile import mvolatile
from mvolatile.kernel.smaps import mappings
from support.areas import Area, libc_call
from support.memories import HUGE, PAGE
from support.processes import run_python
from support.seccomp import USERFAULTFD
from support.tiers import exact, loses

pytestmark = pytest.mark.usefixtures("_one_cpu")

GUARD_INSTALL, GUARD_REMOVE, COLLAPSE = 102, 103, 25


def advise(area: Area, page: int, count: int, advice: int) -> None:
    libc_call("madvise", area.address + page * PAGE, count * PAGE, advice)


# ---- vm.max_map_count


CROWDED = """
import ctypes, errno, os, sys
import mvolatile as mv
from mvolatile.kernel.smaps import mappings
from support.areas import Area, libc_call
from support.memories import PAGE, filled, lose, page_out, pattern

def watched(address):
    return any("um" in one.flags for one in mappings() if one.start <= address < one.end)

def use_up():
    limit = int(open("/proc/sys/vm/max_map_count").read())
    spare = libc_call("mmap", 0, 2 * limit * PAGE, 0, 0x4022, -1, 0)
    try:
        for i in range(limit): libc_call("mprotect", spare + (2 * i + 1) * PAGE, PAGE, 1)
    except OSError as error:
        assert error.errno == errno.ENOMEM
    return spare, 2 * limit * PAGE

def refused(call):
    try: call()
    except OSError as error:
        assert error.errno == errno.ENOMEM, error
        return str(error)
    raise AssertionError("not refused")
"""


def crowded(text: str) -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    if limit > 1 << 18:
        pytest.skip(f"vm.max_map_count is {limit}")
    run_python(CROWDED + text, env={"MVOLATILE_TIER": "userfaultfd"}).check()


@exact
@pytest.mark.parametrize(("first", "count"), [(16, 16), (0, 32), (32, 32)])
def test_an_unmark_that_would_split_one_mapping_too_many(first: int, count: int) -> None:
    crowded(f"""
guard = Area(66, protection=0)     # or a part may merge with what happens to lie beside it, and no mapping is split
area = Area(64, flags=0x32, at=guard.address + PAGE); area.fill()
assert mv.mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
area.reclaim({first}, 1)
spare = use_up()
part = (area.address + {first} * PAGE, {count} * PAGE)
assert "max_map_count" in refused(lambda: mv.mvolatile(*part, 0))
libc_call("munmap", *spare)
assert mv.status().raw == area.nbytes, "nothing has changed"
assert watched(part[0]) and watched(area.address)
area.reclaim({first} + 1, 1)
assert not area.present()[{first} + 1], "it is volatile still"
assert mv.mvolatile(*part, 0) == (part[1], 1)
assert not watched(part[0] + PAGE)
assert area.bytes({first}, 2) == bytes(2 * PAGE) and all(area.whole(p) for p in range({first} + 2, {first} + {count}))
assert mv.mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
""")


@exact
@pytest.mark.room_counted
def test_other_calls_where_no_mapping_is_left() -> None:
    """Each does all of its work or says that it cannot; and what is closed gives its pages back."""
    crowded("""
import mvolatile.cache
area = Area(64); area.fill()
marked = Area(8); marked.fill(); mv.mvolatile(marked.address, marked.nbytes, 1); marked.reclaim(2, 1)
memories = [filled(4 << 20, huge=False) for _ in range(4)]
lossy = filled(4 << 20); lose(lossy, [(0, 2 << 20)])
small = filled(3 * PAGE); lose(small, [(PAGE, PAGE)])
wanted = memoryview(pattern(4 << 20))
spare = use_up()
refused(lambda: mv.mvolatile(area.address + 16 * PAGE, 16 * PAGE, 1))
assert mv.status().raw == marked.nbytes
libc_call("madvise", area.address + 16 * PAGE, 16 * PAGE, 4)
area.fill(16, 16, 7)                                         # as an allocator's: it does not trap
pid = os.fork()
if not pid:
    assert small.purged() == ((PAGE, PAGE),) and lossy.purged() == ((0, 2 << 20),)
    assert all(one.read(at, PAGE) == wanted[at:at + PAGE] for one in memories for at in range(0, 4 << 20, PAGE))
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert mv.mvolatile(marked.address, marked.nbytes, 0) == (marked.nbytes, 1), "whole mappings need no split"
with lossy.pin(on_purge="zero", write=True) as view:
    assert view[2 << 20:] == wanted[2 << 20:] and not any(view[at] for at in range(0, 2 << 20, PAGE))
assert small.purged() == ((PAGE, PAGE),)
assert memories[0].purge() == 4 << 20 and memories[0].purged() == ((0, 4 << 20),)
def resident(): return int(open("/proc/self/statm").read().split()[1]) * PAGE
before = resident()
for one in memories[1:]: one.close()
assert resident() < before - (10 << 20)
libc_call("munmap", *spare)
assert mv.mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
""")


# ---- memory that grows where it is


@contextmanager
def grown(pages: int, more: int, at: int = 0) -> Iterator[Area]:
    """Marked pages that have been given `more` behind them, by mremap(2)."""
    with Area(pages + more, at=at) as area:
        area.unmap(pages, more)
        area.nbytes = pages * PAGE
        area.fill()
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        libc_call(
            "mremap", area.address, area.nbytes, area.nbytes + more * PAGE, 0
        )  # where it is, or not at all
        area.nbytes += more * PAGE
        yield area


@loses
def test_a_mark_over_what_has_grown() -> None:
    """The new part was never written, and so is not lost; what is written there from now on can be."""
    with grown(4, 4) as area:
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        assert area.bytes(4, 4) == bytes(4 * PAGE)
        area.reclaim(4, 4)
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
        assert all(map(area.whole, range(4)))
        area.fill(4, 4)
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        area.reclaim(6, 1)
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 1)


@loses
@pytest.mark.parametrize("first", [0, 4, 6])
def test_it_grows_to_where_something_else_was_marked(first: int) -> None:
    """That was unmapped, and is forgotten: never written is the new part even so."""
    with Area(8) as before:
        before.fill()
        length = (8 - first) * PAGE
        assert mvolatile(before.address + first * PAGE, length, 1) == (length, 0)
        address = before.address
    with grown(4, 4, at=address) as area:
        assert area.address == address
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        assert area.bytes(4, 4) == bytes(4 * PAGE)
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)


@loses
@pytest.mark.parametrize(("first", "count"), [(0, 8), (4, 4), (2, 6)])
def test_an_unmark_over_what_has_grown(first: int, count: int) -> None:
    with grown(4, 4) as area:
        area.reclaim(3, 1)
        answer = mvolatile(area.address + first * PAGE, count * PAGE, 0)
        assert answer == (count * PAGE, int(first <= 3))
        area.fill(4, 4)  # it does not trap any more
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, int(first > 3))


@loses
def test_a_forked_child_of_what_has_grown() -> None:
    """The child watches what is marked, and nothing else."""
    with grown(4, 4) as area:
        pid = os.fork()
        if not pid:
            area.fill(4, 4)
            os._exit(mvolatile(area.address, area.nbytes, 0) != (area.nbytes, 0))
        assert os.waitpid(pid, 0)[1] == 0
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)


# ---- guard pages, and another userfaultfd


@pytest.fixture
def guarded() -> Iterator[Area]:
    with Area(16) as area:
        area.fill()
        try:
            advise(area, 8, 1, GUARD_INSTALL)
            advise(area, 8, 1, GUARD_REMOVE)
        except OSError as error:
            pytest.skip(f"no guard pages here: {error}")
        area.fill()
        yield area


@exact
def test_guard_pages_are_refused_by_name(guarded: Area) -> None:
    before = mv.status().raw
    advise(guarded, 8, 1, GUARD_INSTALL)
    with pytest.raises(OSError, match="MADV_GUARD_INSTALL") as refused:
        mvolatile(guarded.address, guarded.nbytes, 1)
    assert refused.value.errno == errno.EFAULT
    assert mv.status().raw == before
    assert mvolatile(guarded.address, 8 * PAGE, 1) == (8 * PAGE, 0)
    assert mvolatile(guarded.address, 8 * PAGE, 0) == (8 * PAGE, 0)
    assert all(map(guarded.whole, range(8)))


@exact
def test_guard_pages_put_into_what_is_marked(guarded: Area) -> None:
    """What they replace is lost, by their doing; the rest can be unmarked around them, and is volatile until then."""
    before = mv.status().raw
    assert mvolatile(guarded.address, guarded.nbytes, 1) == (guarded.nbytes, 0)
    advise(guarded, 8, 1, GUARD_INSTALL)
    with pytest.raises(OSError, match="MADV_GUARD_INSTALL"):
        mvolatile(guarded.address, guarded.nbytes, 0)
    assert mv.status().raw == before + guarded.nbytes
    guarded.reclaim(2, 1)
    assert not guarded.present()[2]
    assert mvolatile(guarded.address, 8 * PAGE, 0) == (8 * PAGE, 1)
    assert mvolatile(guarded.address + 9 * PAGE, 7 * PAGE, 0) == (7 * PAGE, 0)
    assert mv.status().raw == before + PAGE
    advise(guarded, 8, 1, GUARD_REMOVE)
    assert mvolatile(guarded.address, guarded.nbytes, 0) == (guarded.nbytes, 1)
    assert mv.status().raw == before


@contextmanager
def another_watches(address: int, length: int) -> Iterator[None]:
    fd = libc_call("syscall", USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | 1)
    try:
        fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
        fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("QQQQ", address, length, 1, 0)))
        yield
    finally:
        os.close(fd)


@exact
def test_another_userfaultfd_on_raw_memory() -> None:
    with Area(16) as area:
        area.fill()
        before = mv.status().raw
        with another_watches(area.address, area.nbytes):
            with pytest.raises(OSError, match="another userfaultfd") as refused:
                mvolatile(area.address, area.nbytes, 1)
            assert refused.value.errno == errno.EBUSY
            assert mv.status().raw == before
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        area.reclaim(1, 1)
        with pytest.raises(OSError, match="busy"), another_watches(area.address, area.nbytes):
            pass
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 1)


@exact
def test_another_userfaultfd_on_a_memory() -> None:
    memory = mv.VolatileMemory(2 * HUGE, name="another watches")
    pin = memory.pin(write=True)
    with pin as view:
        view[:] = b"b" * len(view)
        held = another_watches(memory.address, memory.nbytes)
        held.__enter__()
        outer = memory.pin()
        outer.__enter__()
    with pytest.warns(mv.VolatilityWarning, match="another userfaultfd"):
        outer.__exit__(None, None, None)
    try:
        assert [one.volatile for one in mv.status().memories if one.name == memory.name] == [0]
        assert memory.read(0, 2) == b"bb"
        with pytest.raises(OSError, match="busy: another userfaultfd") as refused:
            memory.purge()
        assert refused.value.errno == errno.EBUSY
        assert not isinstance(refused.value, BufferError)
    finally:
        held.__exit__(None, None, None)
    memory.write(b"c")
    assert memory.purge() == memory.nbytes
    assert memory.purged() == ((0, memory.nbytes),)


# ---- huge pages


def lazy(address: int) -> int:
    return sum(one.lazy_free for one in mappings() if one.start <= address < one.end)


def collapse(address: int) -> None:
    """What khugepaged does in its own time; refused is as good as not tried."""
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(HUGE), COLLAPSE)


@loses
def test_raw_memory_is_not_collapsed_while_it_is_marked() -> None:
    """Before Linux 7.1 that made it a huge page that the kernel does not take."""
    with Area(4 * HUGE // PAGE) as area:
        start = (area.address + HUGE - 1) & -HUGE
        ctypes.memset(start, 1, HUGE)
        for at in range(start, start + HUGE, HUGE // 4):  # in pieces, which become one mapping
            assert mvolatile(at, HUGE // 4, 1) == (HUGE // 4, 0)
        collapse(start)
        assert lazy(start) >= HUGE - 64 * PAGE * (os.cpu_count() or 1)
        area.reclaim()
        assert mvolatile(start, HUGE, 0) == (HUGE, 1)


@loses
def test_a_memory_on_base_pages_is_not_collapsed_while_it_is_volatile() -> None:
    memory = mv.VolatileMemory(2 * HUGE)
    libc_call("madvise", memory.address, memory.nbytes, mmap.MADV_NOHUGEPAGE)  # as where none are to be had
    memory.write(b"x" * memory.nbytes)
    collapse(memory.address)
    assert memory.purge() == memory.nbytes
    with memory.pin(write=True, on_purge="zero") as view:
        view[:] = b"y" * len(view)  # and made afresh they may be huge
    assert memory.read(0) == b"y" * memory.nbytes


@loses
def test_status_makes_true_what_it_says_of_a_memory_that_somebody_collapsed() -> None:
    memory = mv.VolatileMemory(2 * HUGE)
    libc_call("madvise", memory.address, memory.nbytes, mmap.MADV_NOHUGEPAGE)
    memory.write(b"x" * memory.nbytes)
    libc_call("madvise", memory.address, memory.nbytes, mmap.MADV_HUGEPAGE)
    collapse(memory.address)
    assert mv.status().volatile >= memory.nbytes
    page_count = 0
    for _ in range(20):
        libc_call(
            "madvise",
            memory.address,
            memory.nbytes,
            mmap.MADV_PAGEOUT if hasattr(mmap, "MADV_PAGEOUT") else 21,
        )
        page_count = sum(n for _, n in memory.purged())
        if page_count == memory.nbytes:
            break
    assert page_count == memory.nbytes
