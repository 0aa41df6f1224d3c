"""Memory for values, as long as the program has address space left beside it.

The kernel takes back pages, never addresses. Under RLIMIT_AS (``ulimit -v``), RLIMIT_DATA or strict overcommit a
cache that grew until mmap refuses would leave none to the program: its next list, its next thread fails, and goes on to
fail. So a memory that would take what the program should have is refused here, and others are given up.

The memory of large values that left is kept for the next: to take it from the kernel and give it back costs several
times the copy. The core keeps it, a little for the whole process (`_core/protocol/spare.c`); here it is given back
where addresses run short.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from .._core import give_back_kept
from ..errors import NoRoomError
from ..kernel.room import address_room
from ..memory import VolatileMemory, stored_in_kept, stored_memory
from .values import Encoded, one_after_another, write_parts

__all__ = ["AddressSpace", "OutOfMemoryError", "for_want_of_room", "resident_bytes"]

POOL = 66 << 20
"""What a memory may take at once: small ones share arenas of 64 MiB, and are aligned to 2 MiB."""


class OutOfMemoryError(MemoryError):
    """There is no address space for another memory: nothing was changed, and giving up others may help."""


def for_want_of_room(error: BaseException) -> bool:
    """Whether it says that no memory is to be had now, and nothing else."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)  # EAGAIN: mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK
    return isinstance(error, MemoryError) and not isinstance(error, NoRoomError)


def resident_bytes(memory: VolatileMemory) -> int:
    """Its bytes in RAM; none if it has left meanwhile."""
    try:
        return memory.resident()
    except ValueError:
        return 0


class AddressSpace:
    """Makes memories called `name`, within the address space there is."""

    def __init__(self, name: str, *, dump: bool, inherit: bool) -> None:
        self._new = partial(VolatileMemory, name=name, dump=dump, inherit=inherit)
        self._stored = partial(stored_memory, name=name, dump=dump, inherit=inherit)
        self._kind = name, dump, inherit
        self._least = 0  # seen since there was enough
        self.shrinking = False  # the program takes what should be its own: somebody is to give up some

    def take(self, nbytes: int) -> VolatileMemory:
        """A new memory; `OutOfMemoryError` where there is no room for it."""
        return self._take(nbytes, partial(self._new, nbytes))

    def store_in_kept(self, parts: list[Any], nbytes: int) -> VolatileMemory | None:
        """A memory with `parts` in it, `nbytes` in all, that a value had which left; None where there is none, or none
        can be had.
        """
        buffers = one_after_another(parts)
        if buffers is None:
            return None
        try:
            return stored_in_kept(buffers, nbytes, *self._kind)
        except (MemoryError, OSError):  # told, and something done about it, by who stores it otherwise
            return None

    def store(self, encoded: Encoded) -> VolatileMemory:
        """A memory with a value in it, volatile already; errors as above."""
        kept = self.store_in_kept(encoded.parts, encoded.nbytes)
        if kept is not None:
            return kept
        parts = one_after_another(encoded.parts)
        if parts is not None:
            return self._take(encoded.nbytes, partial(self._stored, parts))
        memory = self.take(encoded.nbytes)
        with memory.pin(write=True) as view:
            write_parts(encoded.parts, view)
        return memory

    def _take(self, nbytes: int, make: Callable[[], VolatileMemory]) -> VolatileMemory:
        """Whether a memory takes addresses, or a place that is there, shows afterwards."""
        before = address_room()
        memory = self._mapped(make)
        if before is None or before > nbytes + POOL:
            self._least = 0
            return memory
        give_back_kept()
        after = address_room()
        if after is None or after >= 0 or after >= before:
            self._watch_program(after)
            return memory
        memory.close()
        raise OutOfMemoryError

    def _mapped(self, make: Callable[[], VolatileMemory]) -> VolatileMemory:
        try:
            return make()
        except (MemoryError, OSError) as error:
            if not for_want_of_room(error):
                raise
            address_room(anew=True)
            raise OutOfMemoryError from None

    def _watch_program(self, left: int | None) -> None:
        """Only while it becomes less: what we give up fills the holes of arenas first, and shows late."""
        if left is None or left >= 0:
            self._least = 0
        elif left < self._least:
            self._least, self.shrinking = left, True
