"""Telling a program which keys its cache lost, off the hot path: in a thread that is there only while some are due.

Each cache has its own, since a callback may be slow. It is not the thread that is told of memory pressure, which must
not wait for a callback. It is started outside of the cache's lock: starting waits for the new thread, which may run a
finalizer first that wants the lock.

Where no thread is to be had the keys stay due, and the cache's next change after a while tries again; a warning says so
once. The callback never runs in a thread of the program's: there it would come in the middle of anything.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..kernel.threads import TRY_AGAIN, start_thread, tell_once

__all__ = ["Notices"]


class Notices:
    """Keys due, and who is to be told. It knows nothing of the cache, which may be gone when the last are told."""

    __slots__ = ("_refused_until", "_running", "_tell", "due")

    def __init__(self, tell: Callable[[list[Any]], object]) -> None:
        self._tell = tell
        self._running = threading.Lock()  # held from before a thread starts until it finds nothing more
        self._refused_until = 0.0
        self.due: deque[Any] = deque()

    def deliver(self) -> None:
        """Have a thread tell what is due, if there is none."""
        if self._refused_until and time.monotonic() < self._refused_until:
            return
        if not self._running.acquire(blocking=False):
            return
        try:
            thread = threading.Thread(target=self._run, name="mvolatile-notices", daemon=True)
            start_thread(thread, green=True)
        except BaseException as failure:
            self._running.release()
            if not isinstance(failure, RuntimeError | MemoryError):
                raise
            self._refused_until = time.monotonic() + TRY_AGAIN
            tell_once("on_lost and on_evict are told of keys later, if at all", failure)

    def _run(self) -> None:
        try:
            while self.due:
                keys = [self.due.popleft() for _ in range(len(self.due))]
                self._tell(keys)
        finally:  # what it raises is for threading.excepthook
            self._running.release()
            if self.due:  # added after we looked
                self.deliver()

    @property
    def idle(self) -> bool:
        """Whether all is told."""
        return not self.due and not self._running.locked()

    def after_fork(self) -> None:
        """The thread stayed in the parent, with the keys it was telling."""
        self._running = threading.Lock()
        self._refused_until = 0.0
