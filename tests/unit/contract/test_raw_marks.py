"""mvolatile(): marks, losses and their report."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading

import pytest

import mvolatile as mv
from mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE, mvolatile
from support.areas import Area, libc_call
from support.libc import Userfaultfd
from support.memories import HUGE, PAGE, page_out
from support.tiers import exact, loses

pytestmark = pytest.mark.usefixtures("_one_cpu")


def mark(area: Area, page: int = 0, count: int | None = None) -> None:
    length = area.nbytes - page * PAGE if count is None else count * PAGE
    assert mvolatile(area.address + page * PAGE, length, MVOLATILE_VOLATILE) == (length, 0)


def unmark(area: Area, page: int = 0, count: int | None = None) -> int:
    length = area.nbytes - page * PAGE if count is None else count * PAGE
    nbytes, purged = mvolatile(area.address + page * PAGE, length, MVOLATILE_NONVOLATILE)
    assert nbytes == length
    return purged


def lose(area: Area, page: int = 0, count: int | None = None) -> None:
    area.reclaim(page, count)
    last = area.nbytes // PAGE if count is None else page + count
    assert not any(area.present()[page:last]), "the kernel did not take all"


def test_the_values_of_the_patch() -> None:
    assert (MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE) == (0, 1)
    assert (mv.MVOLATILE_NONVOLATILE, mv.MVOLATILE_VOLATILE) == (0, 1)


def test_mark_and_unmark() -> None:
    with Area(8) as area:
        area.fill()
        mark(area)
        assert unmark(area) == 0
        assert all(area.whole(page) for page in range(8))
        assert mvolatile(area.address, 0, MVOLATILE_VOLATILE) == (0, 0)
        assert mvolatile(area.address, 0, MVOLATILE_NONVOLATILE) == (0, 0)


def test_the_status_counts_them(tier: str) -> None:
    before = mv.status().raw
    with Area(8) as area:
        area.fill()
        mark(area, 2, 4)
        assert mv.status().raw - before == (0 if tier == "unsupported" else 4 * PAGE)
        unmark(area, 3, 1)
        assert mv.status().raw - before == (0 if tier == "unsupported" else 3 * PAGE)
        unmark(area)
        assert mv.status().raw == before


@loses
def test_purged_pages_are_told_and_read_as_zeros() -> None:
    with Area(8) as area:
        area.fill()
        mark(area)
        lose(area, 2, 3)
        assert unmark(area) == 1
        for page in range(8):
            assert area.bytes(page) == bytes(PAGE) if page in (2, 3, 4) else area.whole(page)
        assert unmark(area) == 0, "the unmark has cleared it"


@loses
def test_unmarked_memory_is_never_reclaimed() -> None:
    """The same call that purges the volatile pages leaves those beside them."""
    with Area(32) as area:
        area.fill()
        mark(area, 8, 8)
        mark(area, 24, 4)
        area.reclaim()
        gone = [not present for present in area.present()]
        assert gone == [8 <= page < 16 or 24 <= page < 28 for page in range(32)]
        assert unmark(area) == 1
        for page in range(32):
            assert gone[page] or area.whole(page)


@loses
def test_split_and_merge() -> None:
    """1 MiB, unmark the middle page, mark it again."""
    pages = (1 << 20) // PAGE
    middle = pages // 2
    with Area(pages) as area:
        area.fill()
        mark(area)
        assert unmark(area, middle, 1) == 0
        area.reclaim()
        assert [page for page, present in enumerate(area.present()) if present] == [middle]
        assert area.whole(middle)
        mark(area, middle, 1)
        lose(area, middle, 1)
        assert unmark(area, middle, 1) == 1
        assert unmark(area, 0, middle) == 1
        assert unmark(area) == 1
        assert unmark(area) == 0
        assert area.bytes(0, pages) == bytes(area.nbytes)


@loses
def test_each_part_tells_for_itself() -> None:
    with Area(12) as area:
        area.fill()
        mark(area)
        lose(area, 4, 2)
        told = [unmark(area, page, 1) for page in range(12)]
        assert told == [int(page in (4, 5)) for page in range(12)]


@loses
def test_pages_never_written_are_not_purged() -> None:
    with Area(12) as area:
        area.fill(3, 2)
        mark(area)
        area.reclaim()
        assert unmark(area, 0, 3) == 0
        assert unmark(area, 5) == 0
        assert unmark(area, 3, 2) == 1
        assert area.bytes(0, 12) == bytes(area.nbytes)


def test_pages_only_read_are_not_purged() -> None:
    """They are the zero page, which the kernel may unmap and fault in as it likes."""
    with Area(4) as area:
        assert area.bytes(0, 4) == bytes(4 * PAGE)
        mark(area)
        area.reclaim()
        assert unmark(area) == 0


def test_nothing_written_at_all() -> None:
    with Area(64) as area:
        mark(area)
        area.reclaim()
        assert area.bytes(5) == bytes(PAGE), "a page never written does not trap"
        assert unmark(area) == 0


@loses
def test_no_stale_marker() -> None:
    """KOSAKI's bug on v12: purge, unmark, mark again, unmark: the second must not tell of the first's loss."""
    with Area(8) as area:
        area.fill()
        mark(area)
        lose(area)
        assert unmark(area) == 1
        mark(area)
        assert unmark(area) == 0
        area.fill()
        mark(area)
        assert unmark(area) == 0
        assert all(area.whole(page) for page in range(8))
        mark(area)
        lose(area)
        assert unmark(area) == 1


@loses
def test_a_write_cancels_and_a_second_mark_renews() -> None:
    with Area(4) as area:
        area.fill()
        mark(area)
        area.fill(1, 1)  # written while volatile: stays
        area.reclaim()
        assert area.present() == [False, True, False, False]
        assert area.whole(1)
        mark(area)  # of what is marked already
        lose(area)
        assert unmark(area, 1, 1) == 1
        assert unmark(area) == 1


@loses
def test_marking_again_does_not_hide_a_loss() -> None:
    with Area(4) as area:
        area.fill()
        mark(area)
        lose(area, 1, 1)
        mark(area)
        mark(area, 1, 1)
        assert unmark(area) == 1
        assert area.whole(0)


@loses
def test_overlapping_marks_are_one() -> None:
    """A set of addresses, as the patch's VMAs are: no counting."""
    with Area(16) as area:
        area.fill()
        mark(area, 0, 8)
        mark(area, 4, 8)
        assert unmark(area, 4, 4) == 0
        area.reclaim()
        assert [page for page, present in enumerate(area.present()) if present] == [
            4,
            5,
            6,
            7,
            12,
            13,
            14,
            15,
        ]
        assert unmark(area, 4, 4) == 0
        assert unmark(area) == 1


@loses
def test_over_several_mappings() -> None:
    """VMAs of different permissions and advice side by side are one range to the call."""
    with Area(24) as area:
        area.fill()
        libc_call("madvise", area.address + 8 * PAGE, 8 * PAGE, 16)  # MADV_DONTDUMP: a mapping of its own
        mark(area)
        lose(area)
        assert unmark(area) == 1
        assert area.bytes(0, 24) == bytes(area.nbytes)


@loses
@pytest.mark.parametrize("huge", [False, True])
def test_large_memory(huge: bool) -> None:
    """Where the system gives huge pages, a part of one may be marked and unmarked too."""
    with Area(3 * HUGE // PAGE) as area:
        libc_call("madvise", area.address, area.nbytes, 14 if huge else 15)
        area.fill()
        mark(area)
        assert unmark(area, 700, 1) == 0
        assert area.whole(700)
        area.reclaim()
        present = area.present()
        assert present[700]
        assert not all(present)
        for page in range(area.nbytes // PAGE):
            told = unmark(area, page, 1) if page % 97 == 0 or page == 700 else None
            if told is not None:
                assert told == int(not present[page])
                assert area.whole(page) if present[page] else area.bytes(page) == bytes(PAGE)
        unmark(area)


# ---- memory of others


@loses
def test_pages_inside_an_array() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(6 * PAGE // 8, dtype=numpy.uint64) + 1
    copy = array.copy()
    start = -(-array.ctypes.data // PAGE) * PAGE
    first, count = (start - array.ctypes.data) // 8, 4 * PAGE // 8
    assert mvolatile(start, 4 * PAGE, MVOLATILE_VOLATILE) == (4 * PAGE, 0)
    page_out(start, 4 * PAGE)
    assert mvolatile(start, 4 * PAGE, MVOLATILE_NONVOLATILE) == (4 * PAGE, 1)
    copy[first : first + count] = 0
    assert (array == copy).all()


@loses
def test_an_mmap_object() -> None:
    with mmap.mmap(-1, 8 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[:] = b"\x07" * (8 * PAGE)
        view = (ctypes.c_char * len(area)).from_buffer(area)
        address = ctypes.addressof(view)
        del view
        mvolatile(address, 8 * PAGE, 1)
        page_out(address + PAGE, PAGE)
        assert mvolatile(address, 8 * PAGE, 0) == (8 * PAGE, 1)
        assert area[:] == b"\x07" * PAGE + bytes(PAGE) + b"\x07" * (6 * PAGE)


# ---- behind the library's back


@loses
def test_unmapped_while_marked(tier: str) -> None:
    area = Area(8)
    area.fill()
    mark(area)
    area.unmap()
    with pytest.raises(OSError, match="mvolatile") as refused:
        unmark(area)
    assert refused.value.errno == 12
    with Area(8, at=area.address, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10) as new:  # MAP_FIXED
        assert new.address == area.address
        assert new.bytes(0, 8) == bytes(8 * PAGE), "a new mapping does not trap"
        # It was never marked. But where nothing traps, nothing tells it from a purged one: the safe answer.
        assert unmark(new) == int(tier == "faultcount")
        new.fill()
        mark(new)
        lose(new)
        assert unmark(new) == 1


@exact
def test_mapped_anew_without_a_call_in_between() -> None:
    """A fresh mapping at the address of a purged one: nothing of it was purged, and it is whole."""
    area = Area(8)
    area.fill()
    mark(area)
    lose(area)
    area.unmap()
    with Area(8, at=area.address, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10) as new:
        new.fill(0, 3)
        assert unmark(new) == 0
        assert all(new.whole(page) for page in range(3))
        assert new.bytes(3, 5) == bytes(5 * PAGE)


@exact
def test_mapped_anew_and_watched_by_somebody_else() -> None:
    """Another userfaultfd of the process has it: it is not ours to fill, and a child's watch keeps off it."""
    area = Area(8)
    area.fill()
    mark(area)
    area.unmap()
    with (
        Area(8, at=area.address, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10) as new,
        Userfaultfd() as other,
    ):
        other.register(new.address, new.nbytes)
        if (pid := os.fork()) == 0:
            status = 1
            try:
                with Userfaultfd() as own:
                    own.register(new.address, new.nbytes)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert unmark(new) == 0
        assert not any(new.present())


@loses
def test_data_mapped_anew_is_never_called_lost_nor_reclaimed() -> None:
    area = Area(8)
    area.fill()
    mark(area)
    area.unmap()
    with Area(8, at=area.address, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10) as new:
        new.fill()
        new.reclaim()
        assert all(new.present())
        assert unmark(new) == 0
        assert all(new.whole(page) for page in range(8))


def test_a_hole_punched_while_marked() -> None:
    area = Area(8)
    area.fill()
    mark(area)
    area.unmap(3, 2)
    with pytest.raises(OSError) as refused:
        unmark(area)
    assert refused.value.errno == 12
    assert unmark(area, 0, 3) == 0
    assert unmark(area, 5, 3) == 0
    assert all(area.whole(page) for page in (0, 1, 2, 5, 6, 7))
    area.forget(3, 2)
    area.unmap()


@loses
def test_threads_on_disjoint_parts() -> None:
    with Area(64) as area:
        area.fill()
        wrong: list[str] = []

        def use(first: int) -> None:
            for _ in range(100):
                area.fill(first, 16)
                mark(area, first, 16)
                area.reclaim(first, 16)
                purged = unmark(area, first, 16)
                lost = [page for page in range(first, first + 16) if not area.whole(page)]
                if purged != bool(lost) or any(any(area.bytes(page)) for page in lost):
                    wrong.append(f"{purged=} {lost=}")

        threads = [threading.Thread(target=use, args=(first,)) for first in (0, 16, 32, 48)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
