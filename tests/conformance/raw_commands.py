"""What a process of a raw program can do: `mvolatile.mvolatile()` over a few pages of private anonymous memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import mvolatile
from conformance.processes import VALUES, Bytes, value_of
from support.libc import MADV_PAGEOUT, PAGE, libc, madvise, states

PAGES = 10
MAP_FIXED, MAP_FIXED_NOREPLACE = 0x10, 0x100000


class RawCommands:
    """Addresses are page numbers within a piece of the address space that no allocator touches."""

    def __init__(self) -> None:
        self.bytes = Bytes()
        self.base = 0

    def begin(self, tier: str) -> None:
        os.environ["MVOLATILE_TIER"] = tier
        assert mvolatile.features().tier == tier
        # In the middle of a large unmapped hole, so that no mapping of Python's own lands in ours.
        whole = libc.mmap(None, 1 << 30, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert whole not in (None, ctypes.c_void_p(-1).value)
        libc.munmap(whole, 1 << 30)
        self.base = whole + (1 << 29)

    def mmap(self, start: int, length: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
        found = libc.mmap(self.base + start * PAGE, length * PAGE, 3, flags, -1, 0)
        assert found == self.base + start * PAGE

    def munmap(self, start: int, length: int) -> None:
        assert libc.munmap(self.base + start * PAGE, length * PAGE) == 0

    def mvolatile(self, start: int, length: int, mode: int, flags: int) -> tuple[int, int]:
        """In bytes from the beginning, so that a program can be unaligned."""
        return mvolatile.mvolatile(self.base + start, length, mode, flags)

    def write(self, page: int, value: int) -> int:
        self.bytes.fill(self.base + page * PAGE, value)
        return value

    def read(self, page: int) -> int:
        """By a system call; and where that goes through a plain load must see the same."""
        found = self.bytes.see(self.base + page * PAGE)
        loaded = self.load(page)
        assert loaded == found, f"a system call finds {found}, a load {loaded}"
        return found

    def load(self, page: int) -> int:
        return value_of(ctypes.string_at(self.base + page * PAGE, PAGE))

    def read_all(self) -> list[int | str]:
        """`read` of every page, or the name of the error."""
        found: list[int | str] = []
        for page in range(PAGES):
            try:
                found.append(self.read(page))
            except OSError as error:
                found.append(errno.errorcode[error.errno or 0])
        return found

    def touch(self, page: int, value: int | None) -> int:
        """A load or a store by a forked child: the byte it finds afterwards, or minus the signal it died of."""
        pid = os.fork()
        if pid == 0:
            address = self.base + page * PAGE
            if value is not None:
                ctypes.memset(address, value, PAGE)
            found = value_of(ctypes.string_at(address, PAGE))
            os._exit(found if 0 <= found < VALUES else 255)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def pageout(self, pages: tuple[int, ...]) -> tuple[int, ...]:
        """The kernel's own reclaim of these pages; those that were there before and are missing afterwards."""
        before = {page: self._state(page) for page in pages}
        for page in pages:
            if before[page] == "present":
                madvise(self.base + page * PAGE, PAGE, MADV_PAGEOUT)
        return tuple(page for page in pages if before[page] == "present" and self._state(page) == "missing")

    def _state(self, page: int) -> str:
        return states(self.base + page * PAGE, PAGE)[0]

    def states(self) -> tuple[str, ...]:
        return tuple(states(self.base, PAGES * PAGE))
