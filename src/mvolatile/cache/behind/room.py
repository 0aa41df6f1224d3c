"""Where the queue is full a store waits until there is room in it: so a program that stores faster than is written
behind goes at the pace of that, and nothing is left out.

It waits a second at most. Where that was in vain (a server that hangs, a disk that is far too slow) the value stays in
memory alone, and so do others, none of which waits, until half of the queue is written.

The bad schedules:

1. A value is stored in memory, and its store waits; the kernel takes it; a reader finds what is behind, and leaves it
   in memory; the store goes on. So a private cache waits before it changes anything. (Of a shared one the keeper has
   noted the change by then, and nobody believes what is behind.)
2. A store holds a lock that the mapping wants: it waits in vain, once.
3. Who waits is the one for whom all wait: a finalizer in the middle of a write or of a change, or a task, whose loop
   stands still meanwhile. Those do not wait. What a coroutine makes is waited for in a thread, before it is stored.
4. Two threads find room for one value. Both let theirs in: the bound is the queue's, and a value for each thread.

Rejected: to queue keys, and read each value from memory when its turn comes. That takes no memory, but under pressure
the kernel has taken most of them by then, and each is made again.
"""

from __future__ import annotations

import sys
import time

from ..loops import can_wait, in_thread, running
from .writer import Due, Writer

__all__ = ["Room"]

SECONDS = 1.0
"""For which a store waits."""

LOOK_AGAIN = 0.001


class Room:
    """In the queue of one cache."""

    def __init__(self, due: Due, writer: Writer) -> None:
        self._due, self._writer = due, writer
        self._in_vain = False
        self._nbytes = 0  # of the value that asked last

    def after_fork(self) -> None:
        """In the child, whose queue is empty."""
        self._in_vain = False

    def wait(self, nbytes: int) -> bool:
        """Whether a value of so many bytes may enter. Not under the cache's lock."""
        self._nbytes = nbytes
        due = self._due
        self._in_vain = self._in_vain and not due.is_half_empty
        if due.has_room(nbytes):
            return True
        if self._in_vain or can_wait(running()):
            return False
        until = time.monotonic() + SECONDS
        while not due.has_room(nbytes):
            if self._writer.pauses or self._writer.is_ours or sys.is_finalizing():
                return False
            self._writer.changed()
            if time.monotonic() >= until:
                self._in_vain = True
                return False
            time.sleep(LOOK_AGAIN)
        return True

    async def await_more(self) -> None:
        """For a task, which is about to store a value: until there is room for one such as the last."""
        if not self._due.has_room(self._nbytes):
            await in_thread(running(), self.wait, self._nbytes)
