"""The kernel's own calls, through ctypes: for tests that must not trust the library's word.

Every call releases the GIL, so a thread in one races for real with the others.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from typing import Final

__all__ = [
    "MADV_COLD",
    "MADV_FREE",
    "MADV_HUGEPAGE",
    "MADV_NOHUGEPAGE",
    "MADV_PAGEOUT",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "PAGE",
    "Anonymous",
    "Userfaultfd",
    "drain",
    "has_swap",
    "libc",
    "madvise",
    "missing",
    "pageout",
    "smaps_field",
    "states",
]

PAGE: Final = mmap.PAGESIZE
MADV_FREE: Final = 8
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
for _name in ("munmap", "mlock", "munlock"):
    getattr(libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def _check(result: int, call: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def madvise(address: int, length: int, advice: int) -> None:
    """madvise(2), or `OSError`."""
    _check(libc.madvise(address, length, advice), f"madvise({advice})")


def drain() -> None:
    """Have pages that wait in per-CPU lists put on the LRU, on every CPU of ours: reclaim finds them there alone,
    and `MADV_FREE` means nothing to a page that waits on another CPU's list.
    """
    allowed = os.sched_getaffinity(0)
    with Anonymous(PAGE) as any_page:
        try:
            for cpu in allowed:
                os.sched_setaffinity(0, {cpu})
                any_page.advise(MADV_COLD)
        finally:
            os.sched_setaffinity(0, allowed)


def pageout(address: int, length: int) -> None:
    """The kernel's own reclaim of these pages, now."""
    drain()
    madvise(address, length, MADV_PAGEOUT)


def states(address: int, length: int) -> list[str]:
    """Of each page, what ``/proc/self/pagemap`` says: ``present``, ``swapped`` or ``missing``."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        data = os.pread(file.fileno(), length // PAGE * 8, address // PAGE * 8)
    entries = struct.unpack(f"={length // PAGE}Q", data)
    return ["present" if e >> 63 else "swapped" if e >> 62 & 1 else "missing" for e in entries]


def missing(address: int, length: int) -> list[int]:
    """The numbers of the missing pages."""
    return [page for page, state in enumerate(states(address, length)) if state == "missing"]


def smaps_field(address: int, name: str) -> int:
    """A field of the mapping that begins at or holds `address` in ``/proc/self/smaps``, in bytes."""
    inside = False
    with open("/proc/self/smaps") as file:
        for line in file:
            first = line.split(maxsplit=1)[0]
            if "-" in first and not first.endswith(":"):
                start, end = (int(part, 16) for part in first.split("-"))
                inside = start <= address < end
            elif inside and first == f"{name}:":
                return int(line.split()[1]) * 1024
    raise KeyError(name)


def has_swap() -> bool:
    """Whether any swap device is on."""
    with open("/proc/swaps") as file:
        return len(file.readlines()) > 1


class Anonymous:
    """A private anonymous mapping; a context manager. `address` is aligned to `align`."""

    def __init__(self, length: int, *, align: int = PAGE, flags: int = 0x22, huge: bool = False) -> None:
        self.length = length
        self._whole = length + align - PAGE
        found = libc.mmap(None, self._whole, 3, flags, -1, 0)
        if found in (None, ctypes.c_void_p(-1).value):
            _check(-1, "mmap")
        self._start = int(found)
        self.address = -(-self._start // align) * align
        if huge:
            madvise(self.address, length, MADV_HUGEPAGE)

    def fill(self, text: bytes = b"full") -> None:
        """Write to every page: `text`, then the number of the page, at its beginning."""
        for page in range(self.length // PAGE):
            data = text + page.to_bytes(4, "little")
            ctypes.memmove(self.address + page * PAGE, data, len(data))
        drain()

    def advise(self, advice: int, first: int = 0, pages: int | None = None) -> None:
        """madvise(2) on some of the pages (default: all)."""
        madvise(
            self.address + first * PAGE, self.length - first * PAGE if pages is None else pages * PAGE, advice
        )

    def write(self, page: int, data: bytes) -> None:
        ctypes.memmove(self.address + page * PAGE, data, len(data))

    def read(self, page: int, length: int = 8) -> bytes:
        return ctypes.string_at(self.address + page * PAGE, length)

    def purge(self) -> list[int]:
        """Have volatile pages reclaimed; the numbers of the pages that are missing then."""
        pageout(self.address, self.length)
        return missing(self.address, self.length)

    def close(self) -> None:
        if self._start:
            libc.munmap(self._start, self._whole)
            self._start = 0

    def __enter__(self) -> Anonymous:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


class Userfaultfd:
    """A userfaultfd of user mode whose missing pages raise SIGBUS; a context manager."""

    _NUMBER: Final = {"x86_64": 323, "aarch64": 282}
    _USER_MODE_ONLY: Final = 1
    _API, _REGISTER, _UNREGISTER, _COPY, _ZEROPAGE = (
        0xC018AA3F,
        0xC020AA00,
        0x8010AA01,
        0xC028AA03,
        0xC020AA04,
    )
    FEATURE_SIGBUS: Final = 1 << 7

    def __init__(self) -> None:
        number = self._NUMBER[os.uname().machine]
        self.fd = _check(libc.syscall(number, os.O_CLOEXEC | self._USER_MODE_ONLY), "userfaultfd")
        try:
            self._ioctl(self._API, struct.pack("=QQQ", 0xAA, self.FEATURE_SIGBUS, 0), "UFFDIO_API")
        except BaseException:
            os.close(self.fd)
            raise

    def _ioctl(self, request: int, data: bytes, call: str) -> bytes:
        buffer = ctypes.create_string_buffer(data, len(data))
        _check(libc.ioctl(self.fd, request, ctypes.addressof(buffer)), call)
        return buffer.raw

    def register(self, address: int, length: int) -> None:
        self._ioctl(self._REGISTER, struct.pack("=QQQQ", address, length, 1, 0), "UFFDIO_REGISTER")

    def unregister(self, address: int, length: int) -> None:
        self._ioctl(self._UNREGISTER, struct.pack("=QQ", address, length), "UFFDIO_UNREGISTER")

    def zero(self, address: int, length: int) -> None:
        self._ioctl(self._ZEROPAGE, struct.pack("=QQQq", address, length, 0, 0), "UFFDIO_ZEROPAGE")

    def copy(self, address: int, data: bytes) -> None:
        source = ctypes.create_string_buffer(data, len(data))
        self.copy_from(address, ctypes.addressof(source), len(data))

    def copy_from(self, address: int, source: int, length: int) -> None:
        self._ioctl(self._COPY, struct.pack("=QQQQq", address, source, length, 0, 0), "UFFDIO_COPY")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Userfaultfd:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
