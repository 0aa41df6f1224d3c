"""The thread that writes what is due behind, and when it is waited for.

It is there while something is due, and a little longer. Started outside of the cache's lock, as all threads here. It
knows the mapping and what is due, not the cache, which may be gone before all is written.

A failure is followed by a pause, in which what is due waits: a server that is down is not asked at each store. Where no
thread is to be had, who stores writes. At the interpreter's end what is due is waited for, `EXIT_SECONDS` at most.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ...kernel.threads import are_green, start_thread, tell_once
from .pending import CLEAR
from .records import NO_END, Record, packed

__all__ = ["Due", "Writer"]

LINGER = 2.0
"""Seconds that the thread waits for more. To start one takes as long as a store, and a thread that is new to a mapping
may be dear to that: diskcache opens a connection for each.
"""

PAUSE = 1.0
"""Seconds after a failure."""

EXIT_SECONDS = 5.0
FORK_SECONDS = 5.0

_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


class Due(Protocol):
    """What is to be done: `Pending` of a private cache, and of a shared one what its keeper has put in order."""

    dropped: int
    """Values for which there was no room."""

    @property
    def is_half_empty(self) -> bool:
        """Whether room is to be hoped for again."""
        ...

    def has_room(self, nbytes: int, /) -> bool:
        """Whether so many bytes more may wait."""
        ...

    def __len__(self) -> int: ...

    def take(self) -> tuple[str, Record | None] | None:
        """What is to be done next: a key and its record, or None to delete it; `CLEAR`; None for nothing."""
        ...

    def done(self, whether: bool, /) -> None:
        """It was done, or failed."""
        ...

    def after_fork(self) -> None:
        """In the child: what is due is the parent's."""
        ...


class Writer:
    """Of one cache. `failed` is called with what the mapping raised."""

    def __init__(
        self,
        mapping: MutableMapping[str, Any],
        pending: Due,
        prefix: str,
        through: bool,
        failed: Callable[[Exception], object],
    ) -> None:
        self.mapping = mapping
        self._pending, self._prefix, self._through, self._failed = pending, prefix, through, failed
        self.after_fork()
        _writers.add(self)

    def after_fork(self) -> None:
        """In the child: the thread stayed in the parent."""
        self.writing = threading.RLock()
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._waits = self._ends = False
        self._paused_until = 0.0

    @property
    def pauses(self) -> bool:
        """Whether something failed just now."""
        return bool(self._paused_until) and time.monotonic() < self._paused_until

    @property
    def is_ours(self) -> bool:
        """Whether this thread is in the middle of a write."""
        return self.writing._is_owned()  # type: ignore[attr-defined, no-any-return]

    def pause(self) -> None:
        """Something failed."""
        self._paused_until = time.monotonic() + PAUSE

    def changed(self) -> None:
        """Something may be due: see that it is done, or do it, if that is how stores are meant."""
        if not len(self._pending) or self.pauses:
            return
        if self._through:
            if not self.is_ours:  # a finalizer, in the middle of a write
                self._write_all()
        elif self._waits:
            self._wake.put(None)
        else:
            self._start()

    def _start(self) -> None:
        if not self._running.acquire(blocking=False):
            return
        try:
            self._thread = threading.Thread(target=self._run, name="mvolatile-behind", daemon=True)
            start_thread(self._thread, green=True)
        except BaseException as failure:
            self._thread = None
            self._running.release()
            if not isinstance(failure, RuntimeError | MemoryError):
                raise
            tell_once("what is stored is written behind by who stores it", failure)
            if not self.is_ours:
                self._write_all()

    def _run(self) -> None:
        try:
            while self._write_all() and not self._ends:
                if not self._wait_for_more():
                    break
        finally:
            self._waits = False
            self._running.release()
            if len(self._pending) and not self.pauses and not self._ends and not sys.is_finalizing():
                self._start()  # it came after we looked

    def _wait_for_more(self) -> bool:
        """Whether something is due. Several may have called for what was written at once: a call may be of the past.

        A green thread waits for nothing: if the queue is not of its kind all of the program would wait.
        """
        until = time.monotonic() + (0.0 if are_green() else LINGER)
        self._waits = True
        while not len(self._pending) and not self._ends and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                self._wake.get(timeout=left)
        self._waits = False
        return len(self._pending) > 0

    def _write_all(self) -> bool:
        """Until nothing is due: True; or something failed."""
        while (done := self._write_one()) is not None:
            if not done:
                return False
        return True

    def _write_one(self) -> bool | None:
        """Whether it went well; None where there was nothing to do."""
        pending = self._pending
        with self.writing:
            due = pending.take()
            if due is None:
                return None
            done = False
            try:
                self._do(*due)
                done = True
            except Exception as error:
                self.pause()
                self._failed(error)
            finally:
                pending.done(done)
            return done

    def _do(self, key: str, record: Record | None) -> None:
        if record is not None and record.lasts > 0:  # else it waited for longer than it was to live
            self._store(key, record)
        elif key == CLEAR:
            self._clear()
        else:
            with suppress(KeyError):
                del self.mapping[key]

    def _store(self, key: str, record: Record) -> None:
        """With its time to live, where the mapping has a way to tell it."""
        mapping: Any = self.mapping
        if hasattr(type(mapping), "store"):  # a FanoutCache asserts that it has no such attribute
            mapping.store(key, packed(record), None if record.expires == NO_END else record.lasts)
        else:
            mapping[key] = packed(record)

    def _clear(self) -> None:
        mapping: Any = self.mapping
        if hasattr(type(mapping), "clear_prefix"):
            mapping.clear_prefix(self._prefix)
            return
        for key in list(mapping):
            if isinstance(key, str) and key.startswith(self._prefix):
                with suppress(KeyError):
                    del mapping[key]

    def flush(self, seconds: float | None = None) -> None:
        """Until all that is due was tried, or for so long. What fails again stays due."""
        if self.is_ours:
            return
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            self._ends = True
            self._wake.put(None)
            thread.join(seconds)
            if thread.is_alive():
                return
            self._ends = False
        for _ in range(len(self._pending)):
            if self._write_one() is None:
                break


@atexit.register
def _flush_all() -> None:
    for writer in list(_writers):
        writer.flush(EXIT_SECONDS)


_held = threading.local()


def _hold() -> None:
    """No write of ours is in the middle when Python forks: a lock of the mapping's would stay shut in the child."""
    _held.writers = [writer for writer in list(_writers) if writer.writing.acquire(timeout=FORK_SECONDS)]


def _let_go() -> None:
    for writer in _held.__dict__.pop("writers", ()):
        writer.writing.release()


def _forget() -> None:
    _held.__dict__.pop("writers", None)


os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_forget)
