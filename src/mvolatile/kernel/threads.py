"""Starting a thread that waits for something outside of Python, and its end: where there may be none to be had, after a
fork that took it away, and when the interpreter has stopped it for good.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import types
import warnings
from contextlib import suppress

from .. import _core
from ..errors import NoThreadWarning

__all__ = ["TRY_AGAIN", "Process", "are_green", "join", "process", "start_thread", "tell_once"]

TRY_AGAIN = 10.0
"""Seconds until a thread that was not to be had is asked for again, by what asks at every change."""

Process = tuple[int, int]


def process() -> Process:
    """Which process this is: different in a child, however it was forked, and whatever its number."""
    return os.getpid(), _core.forks()


def are_green() -> bool:
    """Whether gevent or eventlet has put threads of its own in the place of the operating system's."""
    return not isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


def start_thread(thread: threading.Thread, green: bool = False) -> None:
    """`thread.start()`; `RuntimeError` where it would not run beside us, unless a `green` one will do.

    While the interpreter tears modules down no other thread runs, and `start` would wait for ever for it. gevent and
    eventlet put their own threads in the place of the operating system's. One of them that waits in C would have the
    whole program wait; and the locks of a patched program are not for the threads it does not know.
    """
    if sys.is_finalizing():
        raise RuntimeError("the interpreter's shutdown lets no thread run")
    if not green and are_green():
        raise RuntimeError("threads are green ones here: nothing can wait beside the program")
    thread.start()


def join(thread: threading.Thread | None, born: Process) -> None:
    """Wait for the end of a daemon thread that was started by the process `born`, unless it can never come.

    A forked child does not have the thread, and where the fork was made in C `threading` does not know it. At the
    interpreter's end a daemon thread stands still for good.
    """
    if thread is None or thread is threading.current_thread() or thread.ident is None:
        return
    if born == process() and not sys.is_finalizing():
        thread.join()


_told: set[str] = set()


def tell_once(without: str, error: BaseException) -> None:
    """Warn that a thread is not to be had, and what is so `without` it. Raises nothing, not even where
    warnings are errors: what was stored, or found, by then must be returned.
    """
    if "shutdown" in str(error):  # Python 3.12 and later start none once the interpreter is on its way out
        return
    if without not in _told:
        _told.add(without)
        with suppress(NoThreadWarning):
            warnings.warn(f"no thread is to be had ({error}): {without}", NoThreadWarning, stacklevel=2)
