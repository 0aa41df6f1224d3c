"""mvolatile(): every refusal of the patch, and that a refusal changes nothing."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

import mvolatile as mv
from mvolatile import VolatileMemory, mvolatile
from mvolatile.kernel.smaps import mappings
from support.areas import MAP_HUGETLB, Area, libc_call, lock, unlock
from support.memories import HUGE, PAGE, filled, pattern
from support.tiers import loses

pytestmark = pytest.mark.usefixtures("_one_cpu")


@pytest.fixture
def area() -> Iterator[Area]:
    with Area(8) as area:
        area.fill()
        yield area
        assert mv.mvolatile(area.address, area.nbytes, 0)[0] == area.nbytes


def refused(code: int, *arguments: int) -> None:
    with pytest.raises(OSError, match=r"^\[Errno [0-9]+\] mvolatile: ") as error:
        mvolatile(*arguments)
    assert errno.errorcode[error.value.errno or 0] == errno.errorcode[code]


@pytest.mark.parametrize("mode", [0, 1])
def test_unaligned(area: Area, mode: int) -> None:
    refused(errno.EINVAL, area.address + 1, PAGE, mode)
    refused(errno.EINVAL, area.address + 8, 0, mode)
    refused(errno.EINVAL, area.address, PAGE + 1, mode)
    refused(errno.EINVAL, area.address, 1, mode)


@pytest.mark.parametrize("mode", [0, 1])
def test_a_range_that_cannot_be(area: Area, mode: int) -> None:
    refused(errno.EINVAL, area.address, -PAGE, mode)
    refused(errno.EINVAL, -PAGE, PAGE, mode)
    refused(errno.EINVAL, 2**64 - PAGE, 2 * PAGE, mode)
    refused(errno.EINVAL, 2**64, PAGE, mode)
    for length in (2**63, 2**64, -(2**70)):
        refused(errno.EINVAL, area.address, length, mode)
    refused(errno.ENOMEM, area.address, 2**63 - PAGE, mode)
    refused(errno.ENOMEM, 2**64 - 2 * PAGE, PAGE, mode)


@pytest.mark.parametrize("mode", [-1, 2, 3, 2**31, -(2**63), 2**63, 2**64, 2**64 + 1])
def test_an_unknown_mode(area: Area, mode: int) -> None:
    refused(errno.EINVAL, area.address, PAGE, mode)
    refused(errno.EINVAL, area.address, 0, mode)


@pytest.mark.parametrize("flags", [1, -1, 2**62, 2**63, 2**64])
def test_unknown_flags(area: Area, flags: int) -> None:
    for mode in (0, 1):
        refused(errno.EINVAL, area.address, PAGE, mode, flags)
        refused(errno.EINVAL, area.address, 0, mode, flags)


def test_whatever_is_an_index_is_a_number(area: Area) -> None:
    class Index:
        def __init__(self, value: int) -> None:
            self.value = value

        def __index__(self) -> int:
            return self.value

    for kind in (Index, pytest.importorskip("numpy").uint64):
        arguments: Any = [kind(one) for one in (area.address, PAGE, 1, 0)]
        assert mvolatile(*arguments) == (PAGE, 0)
    with pytest.raises(OSError, match="mvolatile: "):
        mvolatile(Index(2**64), Index(PAGE), Index(1))  # type: ignore[arg-type]


def test_wrong_types(area: Area) -> None:
    for arguments in ((None, PAGE, 1), (area.address, "4096", 1), (1.5, PAGE, 1), (area.address, PAGE, None)):
        with pytest.raises(TypeError):
            mvolatile(*arguments)
    with pytest.raises(TypeError):
        mvolatile(area.address, PAGE)  # type: ignore[call-arg]


@pytest.mark.parametrize("mode", [0, 1])
def test_nothing_is_mapped_there(mode: int) -> None:
    refused(errno.ENOMEM, PAGE, PAGE, mode)
    with Area(8) as area:
        pass
    refused(errno.ENOMEM, area.address, area.nbytes, mode)


def test_a_hole() -> None:
    area = Area(8)
    area.fill()
    area.unmap(4, 1)
    refused(errno.ENOMEM, area.address, area.nbytes, 1)
    assert mvolatile(area.address, 4 * PAGE, 1) == (4 * PAGE, 0)
    assert mvolatile(area.address, 4 * PAGE, 0) == (4 * PAGE, 0)
    area.unmap(0, 4)
    area.unmap(5, 3)


def test_an_end_beyond_the_mapping() -> None:
    area = Area(8)
    area.fill()
    area.unmap(7, 1)
    refused(errno.ENOMEM, area.address, 8 * PAGE, 1)
    area.unmap(0, 7)


def test_a_file() -> None:
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), 8 * PAGE)
        for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
            with Area(8, flags=flags, fd=file.fileno()) as area:
                area.fill()
                refused(errno.EINVAL, area.address, area.nbytes, 1)


def test_shared_memory() -> None:
    with Area(8, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as area:
        area.fill()
        refused(errno.EINVAL, area.address, area.nbytes, 1)


def test_memory_that_cannot_be_written() -> None:
    with Area(8, protection=mmap.PROT_READ) as area:
        refused(errno.EINVAL, area.address, area.nbytes, 1)


def test_locked_memory() -> None:
    with Area(8) as area:
        area.fill()
        lock(area.address + 4 * PAGE, PAGE)
        refused(errno.EINVAL, area.address, area.nbytes, 1)
        refused(errno.EINVAL, area.address + 4 * PAGE, PAGE, 1)
        unlock(area.address + 4 * PAGE, PAGE)
        assert mvolatile(area.address, area.nbytes, 1) == (area.nbytes, 0)
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)


def test_locked_while_marked() -> None:
    """mlock cancels nothing, but its pages stay; the unmark must still work once it is unlocked."""
    with Area(8) as area:
        area.fill()
        mvolatile(area.address, area.nbytes, 1)
        lock(area.address, area.nbytes)
        with pytest.raises(OSError, match="Invalid argument"):
            area.reclaim()
        unlock(area.address, area.nbytes)
        assert mvolatile(area.address, area.nbytes, 0) == (area.nbytes, 0)
        assert all(area.whole(page) for page in range(8))


def test_hugetlb_memory() -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_HUGETLB
    try:
        area = Area(HUGE // PAGE, flags=flags)
    except OSError as error:
        pytest.skip(f"no hugetlb page is to be had (vm.nr_hugepages): {error}")
    with area:
        refused(errno.EINVAL, area.address, area.nbytes, 1)


@pytest.mark.parametrize("layout", ["pooled", "base", "huge"])
def test_the_memory_of_an_object(layout: str) -> None:
    with filled(layout) as memory:
        for mode in (0, 1):
            refused(errno.EINVAL, memory.address, PAGE, mode)
            refused(errno.EINVAL, memory.address + PAGE, PAGE, mode)
        assert memory.read(0) == pattern(memory.nbytes)


def test_a_range_that_reaches_into_an_object() -> None:
    with VolatileMemory(HUGE) as memory:
        refused(errno.EINVAL, memory.address, 2 * HUGE, 1)
        refused(errno.EINVAL, memory.address - HUGE, 2 * HUGE, 1)


def test_kernel_made_mappings() -> None:
    special = [one for one in mappings() if one.path.startswith("[v") and one.end < 2**63]
    assert special
    for one in special:
        refused(errno.EINVAL, one.start, one.size, 1)


# ---- all or nothing


@loses
@pytest.mark.parametrize("kind", ["hole", "locked", "shared"])
def test_the_second_half_is_bad(kind: str) -> None:
    """Nothing was marked: reclaim takes no page of the first half, and its bytes are read back."""
    area = Area(16)
    area.fill()
    if kind == "hole":
        area.unmap(8, 8)
    elif kind == "locked":
        lock(area.address + 15 * PAGE, PAGE)
    else:
        libc_call(
            "mmap", area.address + 8 * PAGE, 8 * PAGE, 3, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x10, -1, 0
        )
    before = mv.status().raw
    refused(errno.ENOMEM if kind == "hole" else errno.EINVAL, area.address, area.nbytes, 1)
    assert mv.status().raw == before
    area.reclaim(0, 8)
    assert all(area.present()[:8])
    assert all(area.whole(page) for page in range(8))
    assert mvolatile(area.address, 8 * PAGE, 0) == (8 * PAGE, 0)
    area.unmap(0, 8)
    if kind != "hole":
        area.unmap(8, 8)


@loses
def test_a_refused_mark_keeps_earlier_marks() -> None:
    area = Area(16)
    area.fill()
    mvolatile(area.address, 4 * PAGE, 1)
    area.unmap(12, 4)
    refused(errno.ENOMEM, area.address, area.nbytes, 1)
    area.reclaim(0, 12)
    assert [page for page, present in enumerate(area.present()) if present] == list(range(4, 12))
    assert mvolatile(area.address, 12 * PAGE, 0) == (12 * PAGE, 1)
    area.unmap(0, 12)


@loses
def test_a_refused_unmark_clears_nothing() -> None:
    """Half of it is gone: the loss in the other half is told by the next unmark, and what is volatile stays so."""
    area = Area(16)
    area.fill()
    mvolatile(area.address, area.nbytes, 1)
    area.reclaim(0, 2)
    assert area.present()[:3] == [False, False, True]
    area.unmap(8, 8)
    refused(errno.ENOMEM, area.address, area.nbytes, 0)
    area.reclaim(2, 2)
    assert area.present()[:5] == [False] * 4 + [True], "pages 2 and 3 were volatile still"
    assert mvolatile(area.address, 8 * PAGE, 0) == (8 * PAGE, 1)
    assert area.bytes(0, 4) == bytes(4 * PAGE)
    assert all(area.whole(page) for page in range(4, 8))
    area.forget(8, 8)
    area.unmap(0, 8)
