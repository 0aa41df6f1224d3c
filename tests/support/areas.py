"""Memory that is not the library's: for mvolatile() on raw addresses."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mvolatile import mvolatile
from support.memories import PAGE, page_out

__all__ = ["MAP_HUGETLB", "Area", "libc_call", "lock", "one_cpu", "unlock"]

MAP_HUGETLB = 0x40000
TRIES = 20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p


def libc_call(name: str, *arguments: int) -> int:
    """A call of libc with word-sized arguments; OSError for its -1."""
    result = int(getattr(_libc, name)(*map(ctypes.c_size_t, arguments)) or 0)
    if result in (-1, 2**64 - 1):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


@contextmanager
def one_cpu() -> Iterator[None]:
    """Stay on one CPU.

    The kernel holds up to 31 pages of each CPU back in lists where neither MADV_FREE nor reclaim finds them, but
    empties the list of the CPU it runs on.
    """
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


_FIXED = 0x10
_MLOCK, _MUNLOCK = {"x86_64": (149, 150), "aarch64": (228, 229)}[platform.machine()]


def lock(address: int, length: int) -> None:
    """mlock(2), past the sanitizers, which make libc's do nothing."""
    libc_call("syscall", _MLOCK, address, length)


def unlock(address: int, length: int) -> None:
    """munlock(2)."""
    libc_call("syscall", _MUNLOCK, address, length)


class Area:
    """Anonymous private pages of this test's own, unmapped at the end."""

    def __init__(self, pages: int, *, flags: int = 0, fd: int = -1, protection: int = 3, at: int = 0) -> None:
        self.nbytes = pages * PAGE
        kind = flags or mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.address = libc_call("mmap", at, self.nbytes, protection, kind, fd, 0)

    def fill(self, page: int = 0, count: int | None = None, value: int | None = None) -> None:
        """A byte of its own for each page, or `value`."""
        for number in range(page, self.nbytes // PAGE if count is None else page + count):
            ctypes.memset(self.address + number * PAGE, value or number % 255 + 1, PAGE)

    def bytes(self, page: int, count: int = 1) -> bytes:
        """What is there now: a touch."""
        return ctypes.string_at(self.address + page * PAGE, count * PAGE)

    def whole(self, page: int) -> bool:
        """Whether the page holds what `fill` wrote."""
        return self.bytes(page) == bytes([page % 255 + 1]) * PAGE

    def unmap(self, page: int = 0, count: int | None = None) -> None:
        """All of it, or some pages."""
        libc_call("munmap", self.address + page * PAGE, self.nbytes if count is None else count * PAGE)

    def forget(self, page: int, count: int) -> None:
        """That some pages are marked which were unmapped: nobody is told of them while nothing is there."""
        here = Area(
            count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _FIXED, at=self.address + page * PAGE
        )
        with here:
            mvolatile(here.address, here.nbytes, 0)

    def present(self) -> list[bool]:
        """Which pages are in RAM or in swap, without touching them."""
        with open("/proc/self/pagemap", "rb") as pagemap:
            pagemap.seek(self.address // PAGE * 8)
            data = pagemap.read(self.nbytes // PAGE * 8)
        return [data[i + 7] & 0xC0 != 0 for i in range(0, len(data), 8)]

    def reclaim(self, page: int = 0, count: int | None = None) -> None:
        """The kernel's own reclaim, of what it may take; for certain on `one_cpu`.

        More than once: it passes over a page that somebody else looks at just then, as DAMON does.
        """
        count = self.nbytes // PAGE - page if count is None else count
        for _ in range(TRIES):
            page_out(self.address + page * PAGE, count * PAGE)
            with suppress(OSError):  # no descriptor to be had
                if not any(self.present()[page : page + count]):
                    return

    def __enter__(self) -> Area:
        return self

    def __exit__(self, *unused: object) -> None:
        self.unmap()
