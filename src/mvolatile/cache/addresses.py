"""New memory for values, as long as the program has address space left beside it.

The kernel takes back pages, never addresses. Under RLIMIT_AS (``ulimit -v``), RLIMIT_DATA or strict overcommit a
cache that grew until mmap refuses would leave none to the program: its next list, its next thread fails, and goes on to
fail. So a memory that would take what the program should have is refused here, and others are given up.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ..errors import NoRoomError
from ..kernel.room import address_room
from ..memory import VolatileMemory

__all__ = ["AddressSpace", "OutOfMemoryError", "for_want_of_room"]

POOL = 66 << 20
"""What a memory may take at once: small ones share arenas of 64 MiB, and are aligned to 2 MiB."""


class OutOfMemoryError(MemoryError):
    """There is no address space for another memory: nothing was changed, and giving up others may help."""


def for_want_of_room(error: BaseException) -> bool:
    """Whether it says that no memory is to be had now, and nothing else."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN)  # EAGAIN: mlockall(MCL_FUTURE) and RLIMIT_MEMLOCK
    return isinstance(error, MemoryError) and not isinstance(error, NoRoomError)


class AddressSpace:
    """Makes memories by `new_memory`, within the address space there is."""

    def __init__(self, new_memory: Callable[[int], VolatileMemory]) -> None:
        self._new_memory = new_memory
        self._least = 0  # seen since there was enough
        self.shrinking = False  # the program takes what should be its own: somebody is to give up some

    def take(self, nbytes: int) -> VolatileMemory:
        """A new memory; `OutOfMemoryError` where there is no room for it.

        Whether a small one takes addresses, or a slot of an arena that is there, shows afterwards.
        """
        before = address_room()
        memory = self._mapped(nbytes)
        if before is None or before > nbytes + POOL:
            self._least = 0
            return memory
        after = address_room()
        if after is None or after >= 0 or after >= before:
            self._watch_program(after)
            return memory
        memory.close()
        raise OutOfMemoryError

    def _mapped(self, nbytes: int) -> VolatileMemory:
        try:
            return self._new_memory(nbytes)
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
