"""The call of the patch, on any private anonymous memory of this process."""

from __future__ import annotations

import errno
import operator
import os
from typing import Final

from . import _core
from .errors import UnsupportedError
from .kernel import files
from .kernel.unsupported import warn_if_unsupported

__all__ = ["MVOLATILE_NONVOLATILE", "MVOLATILE_VOLATILE", "mvolatile"]

MVOLATILE_NONVOLATILE: Final = 0
MVOLATILE_VOLATILE: Final = 1


_CAUSES: Final = {
    errno.EBUSY: "another userfaultfd of this process watches part of it",
    errno.EFAULT: "a guard page (MADV_GUARD_INSTALL) lies within",
    errno.ENOMEM: "part of it is not mapped, or the process has as many mappings as vm.max_map_count allows",
}
"""What the patch's errors do not tell."""


def mvolatile(address: int, length: int, mode: int, flags: int = 0) -> tuple[int, int]:
    """Mark memory volatile, or unmark it and learn whether any of it was purged: ``(nbytes, purged)``.

    The arguments, mode values and errors are those of v13 of the kernel patch (Stultz and Kim, 2014). As in v14 it is
    all or nothing: either all `length` bytes changed, or an `OSError` says why nothing did.

    Parameters
    ----------
    address, length: in bytes, multiples of the page size; any private anonymous writable memory (an `mmap.mmap(-1, n,
        flags=MAP_PRIVATE | MAP_ANONYMOUS)`, the whole pages inside a NumPy array), but not that of a
        `VolatileMemory`. These and the others may be anything with ``__index__``, such as NumPy's integers.
    mode: `MVOLATILE_VOLATILE` (1) or `MVOLATILE_NONVOLATILE` (0).
    flags: must be 0.

    `purged` is 1 if an unmark covered a page that the kernel had purged since it was marked; such pages read
    as zeros then. Pages never written are not purged. A mark over marked memory makes the pages volatile again that
    were written since.
    Marks split and merge: any part of a marked range may be unmarked.

    A touch of a purged page before the unmark raises SIGBUS. A system call that is handed such a page answers EFAULT.
    In the faultcount tier nothing traps: a read gives zeros, and the unmark still reports the loss; a write goes to a
    page of zeros, and the loss of that page is not reported any more.

    Errors of the patch: `EINVAL` unaligned, negative or overflowing range, unknown mode or flags, memory that is
    locked, huge (hugetlb), shared, file-backed or not writable; `ENOMEM` part of the range is not mapped, or no
    memory for the bookkeeping. That includes ``vm.max_map_count``: what is watched and what is not are mappings apart.
    Of this library: `EFAULT` a guard page (``MADV_GUARD_INSTALL``) lies within, which cannot be held; leave it out.
    `EBUSY` another userfaultfd of the process watches part of it.

    Marked memory that grows where it is (``mremap``, ``mmap.resize``, ``realloc``): the new part is not marked, but is
    watched as the rest, so that touching it may raise SIGBUS. Unmark before, or mark or unmark old and new together
    afterwards: the new part then counts as never written, unless something was.

    `UnsupportedError` where ``/proc/self/maps`` cannot be read.

    Threads: safe. Fork: the child inherits marks and losses, and goes on independently. The memory stays the
    caller's. Unmark it before you unmap it: in the faultcount tier what is mapped there later counts as marked, too.

    >>> import ctypes, mmap
    >>> area = mmap.mmap(-1, 65536, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    >>> address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    >>> area[:4096] = bytes(range(256)) * 16
    >>> mvolatile(address, 65536, MVOLATILE_VOLATILE)
    (65536, 0)
    >>> area.madvise(21)  # MADV_PAGEOUT: reclaim, now
    >>> mvolatile(address, 65536, MVOLATILE_NONVOLATILE)
    (65536, 1)
    """
    warn_if_unsupported()
    try:
        return _core.mvolatile(address, length, mode, flags)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, PermissionError)) and files.read("/proc/self/maps") is None:
            raise UnsupportedError(
                f"mvolatile() looks into /proc/self/maps for what is mapped at {operator.index(address):#x}, and may "
                f"not read it here: {os.strerror(error.errno or 0)}; a VolatileMemory needs no /proc"
            ) from error
        if error.errno not in _CAUSES:
            raise
        raise OSError(error.errno, f"{error.strerror}: {_CAUSES[error.errno]}") from error
