"""One thread that calls functions every second: what monitoring wants of a program that does nothing else for it.

A forked child begins one of its own, if Python forked it; one that was forked in C tells nothing. Where no thread is to
be had that is said once (`NoThreadWarning`), and the functions are called at the end alone. They are called once more
at the interpreter's end, in its main thread, so that what a process did last is told, too.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

from ..kernel.threads import join, process, start_thread, tell_once

__all__ = ["Ticker"]

EVERY = 1.0
"""Seconds."""


class Ticker:
    """`add` from any thread. A function that fails says so once, by `threading.excepthook`. It is called no more, but
    where something was short that may be there again: memory, descriptors, room on a disk.
    """

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._functions: list[Callable[[], object]] = []
        self._failed: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._born = process()
        self._hooked = False

    def add(self, function: Callable[[], object]) -> None:
        """Call it every second from now on, and at the end."""
        with self._lock:
            if function not in self._functions:
                self._functions.append(function)
            if not self._hooked:
                self._hooked = True
                os.register_at_fork(after_in_child=self._after_fork)
                atexit.register(self.close)
            self._start()

    def remove(self, function: Callable[[], object]) -> None:
        """No more."""
        with self._lock:
            if function in self._functions:
                self._functions.remove(function)

    def _start(self) -> None:
        if self._thread is not None or not self._functions:
            return
        thread = threading.Thread(target=self._run, name="mvolatile-metrics", daemon=True)
        try:
            start_thread(thread, green=True)
        except (RuntimeError, MemoryError) as error:
            tell_once("figures are told at the program's end alone", error)
            return
        self._thread = thread

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._tick()

    def _tick(self) -> None:
        for function in list(self._functions):
            try:
                function()
            except Exception as error:
                if not isinstance(error, OSError | MemoryError):
                    self.remove(function)
                if function not in self._failed:
                    self._failed.append(function)
                    _say(error)

    def close(self) -> None:
        """The thread ends, and each function is called once more."""
        if self._born != process():
            return  # forked in C: the counts are the parent's, and its locks may be held for ever
        self._over.set()
        join(self._thread, self._born)  # it may be writing
        self._tick()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = None
        self._born = process()
        with self._lock:
            self._start()


def _say(error: Exception) -> None:
    args = threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    threading.excepthook(args)
