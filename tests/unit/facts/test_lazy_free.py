"""What the library takes for granted about this kernel, one test each, without the library: lazy free, populate
and reclaim. A kernel that breaks an assumption is caught here by name.
"""

from __future__ import annotations

import errno
import os
import resource
import threading

import pytest

from support.libc import (
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    PAGE,
    Anonymous,
    Userfaultfd,
    drain,
    has_swap,
    libc,
    madvise,
    missing,
    pageout,
    smaps_field,
)

HUGE = 2 << 20


def filled(pages: int) -> Anonymous:
    memory = Anonymous(pages * PAGE)
    memory.advise(MADV_NOHUGEPAGE)
    memory.fill()
    return memory


@pytest.fixture
def uffd() -> Userfaultfd:
    try:
        return Userfaultfd()
    except OSError as error:
        pytest.skip(f"userfaultfd is refused here: {error}")


def test_pageout_purges_volatile_pages_and_leaves_the_others_where_there_is_no_swap() -> None:
    with filled(64) as memory:
        memory.advise(MADV_FREE, 0, 32)
        gone = memory.purge()
        assert gone[:32] == list(range(32))
        if not has_swap():
            assert gone == list(range(32))
        assert memory.read(40)[:4] == b"full"
        assert memory.read(3) == bytes(8), "without a watch it reads as zeros"


def test_a_write_cancels_for_its_page_and_a_read_does_not() -> None:
    with filled(64) as memory:
        memory.advise(MADV_FREE)
        memory.write(5, b"new")
        assert memory.read(6)[:4] == b"full"
        assert memory.purge() == [page for page in range(64) if page != 5]
        assert memory.read(5)[:3] == b"new"


def test_a_write_cancels_for_the_whole_of_a_huge_page() -> None:
    with Anonymous(2 * HUGE, align=HUGE, huge=True) as memory:
        memory.fill()
        if smaps_field(memory.address, "AnonHugePages") < 2 * HUGE:
            pytest.skip("no huge pages to be had")
        memory.advise(MADV_FREE)
        memory.write(7, b"new")
        assert memory.purge() == list(range(512, 1024))
        assert memory.read(100)[:4] == b"full"


@pytest.mark.parametrize("huge", [False, True])
def test_populate_write_is_the_atomic_unmark(uffd: Userfaultfd, huge: bool) -> None:
    length = 2 * HUGE if huge else 64 * PAGE
    with uffd, Anonymous(length, align=HUGE if huge else PAGE, huge=huge) as memory:
        memory.fill()
        uffd.register(memory.address, length)
        memory.advise(MADV_FREE)
        memory.advise(MADV_POPULATE_WRITE)
        if not has_swap():
            assert memory.purge() == [], "held, so reclaim leaves it"
        memory.advise(MADV_FREE)
        pageout(memory.address + length // 2, length // 2)
        with pytest.raises(OSError, match="Bad address") as refused:
            memory.advise(MADV_POPULATE_WRITE)
        assert refused.value.errno == errno.EFAULT
        assert missing(memory.address, length) == list(range(length // PAGE // 2, length // PAGE)), (
            "nothing filled"
        )
        if not has_swap():
            assert len(memory.purge()) == length // PAGE // 2, "what came before the hole was held"


@pytest.mark.parametrize("huge", [False, True])
def test_populate_write_never_lies_while_another_thread_reclaims(uffd: Userfaultfd, huge: bool) -> None:
    length = HUGE if huge else 64 * PAGE
    with uffd, Anonymous(length, align=HUGE if huge else PAGE, huge=huge) as memory:
        over = threading.Event()

        def reclaim() -> None:
            while not over.is_set():
                pageout(memory.address, length)

        thread = threading.Thread(target=reclaim)
        thread.start()
        outcomes = set()
        try:
            for _ in range(200):
                memory.fill()
                uffd.register(memory.address, length)
                memory.advise(MADV_FREE)
                try:
                    memory.advise(MADV_POPULATE_WRITE)
                except OSError as refused:
                    outcomes.add(errno.errorcode.get(refused.errno or 0))
                    outcomes.add("lost")
                    assert missing(memory.address, length)
                else:
                    outcomes.add("whole")
                    assert not missing(memory.address, length)
                    assert all(
                        memory.read(p) == (b"full" + p.to_bytes(4, "little")) for p in range(length // PAGE)
                    )
                uffd.unregister(memory.address, length)
        finally:
            over.set()
            thread.join()
        assert outcomes <= {"EFAULT", "lost", "whole"}
        assert outcomes


def test_who_refuses_lazy_free() -> None:
    def refusal(address: int, length: int = PAGE) -> int:
        try:
            madvise(address, length, MADV_FREE)
        except OSError as error:
            return error.errno or -1
        return 0

    with filled(8) as memory:
        assert refusal(memory.address) == 0
        assert refusal(memory.address + 1) == errno.EINVAL
        assert libc.mlock(memory.address + 2 * PAGE, PAGE) == 0
        assert refusal(memory.address + 2 * PAGE) == errno.EINVAL
        libc.munmap(memory.address + 5 * PAGE, PAGE)
        assert refusal(memory.address + 4 * PAGE, 4 * PAGE) == errno.ENOMEM
    with Anonymous(PAGE, flags=0x21) as shared:
        assert refusal(shared.address) == errno.EINVAL


def test_a_page_on_another_cpus_list_is_not_marked() -> None:
    """Fresh pages reach the LRU by way of per-CPU lists, and `MADV_FREE` means nothing to a page that is not there
    yet. It stays, which is safe; `purge()` visits the CPUs and marks again.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    with Anonymous(4 * PAGE) as memory:
        try:
            os.sched_setaffinity(0, {cpus[0]})
            for page in range(4):
                memory.write(page, b"full")
            os.sched_setaffinity(0, {cpus[1]})
            memory.advise(MADV_FREE)
        finally:
            os.sched_setaffinity(0, cpus)
        gone = memory.purge()
        assert all(memory.read(page)[:4] == (bytes(4) if page in gone else b"full") for page in range(4))
        drain()
        memory.fill()
        memory.advise(MADV_FREE)
        assert memory.purge() == [0, 1, 2, 3]


def test_minor_faults_count_lost_pages_without_userfaultfd() -> None:
    def faults(call: int) -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        found = libc.madvise(memory.address, memory.length, call)
        after = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        assert found == 0
        return after - before

    with filled(64) as memory:
        counted = []
        for _ in range(5):  # the interpreter may fault between the two looks, too: the least counts
            memory.advise(MADV_FREE)
            counted.append(faults(MADV_POPULATE_WRITE))
        assert min(counted) == 0, "nothing was lost"
        memory.advise(MADV_FREE)
        pageout(memory.address, 10 * PAGE)
        assert 10 <= faults(MADV_POPULATE_WRITE) < 20


def test_smaps_counts_what_is_volatile_and_still_there() -> None:
    with filled(256) as memory:
        assert smaps_field(memory.address, "LazyFree") == 0
        memory.advise(MADV_FREE)
        drain()  # of the per-CPU lists: what waits there is not counted
        assert smaps_field(memory.address, "LazyFree") == 256 * PAGE
        assert smaps_field(memory.address, "Rss") == 256 * PAGE, "RSS falls with the purge"
        memory.purge()
        assert smaps_field(memory.address, "LazyFree") == smaps_field(memory.address, "Rss") == 0


def test_holes_given_the_zero_page_are_not_purged(uffd: Userfaultfd) -> None:
    with uffd, Anonymous(64 * PAGE) as memory:
        memory.advise(MADV_NOHUGEPAGE)
        memory.write(3, b"data")
        memory.advise(MADV_POPULATE_READ)
        uffd.register(memory.address, memory.length)
        memory.advise(MADV_FREE)
        assert memory.purge() in ([3], []), "the one page that held data"
        assert memory.read(4) == bytes(8)


def test_huge_pages_are_purged_whole() -> None:
    with Anonymous(2 * HUGE, align=HUGE) as memory:
        memory.advise(MADV_HUGEPAGE)
        memory.fill()
        if smaps_field(memory.address, "AnonHugePages") < 2 * HUGE:
            pytest.skip("no huge pages to be had")
        memory.advise(MADV_FREE)
        assert len(memory.purge()) == 1024
