"""Told of memory pressure, all caches look at once what they lost, and let go what they were still filling.

One daemon thread for the process. It starts when a cache first stores a value, and ends with the last such
cache. Where nothing tells of pressure, losses are still noticed: when they are read, and whenever a segment fills.
A service manager turns it off with ``MEMORY_PRESSURE_WATCH=/dev/null``, as systemd's protocol says. Where no thread is
to be had a warning says so once, and nothing is raised: a store has stored by then. The next store after a while tries
again.

The thread sleeps in the core, where another watches (`docs/listener.md`): it has no descriptor, so that nothing which a
program does to descriptors concerns it.

Python 3.12 and later warn (`DeprecationWarning`) when a process that has a thread forks. To end it before a fork
would have the fork wait for it, and it may wait for a cache in whose middle the forking thread is; so it stays, and
a child begins without it.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from .. import _core
from ..errors import UnsupportedError
from ..kernel.pressure import PressureMonitor
from ..kernel.room import total
from ..kernel.threads import TRY_AGAIN, Process, join, process, start_thread, tell_once
from .fork import at_start_over, catch_up

__all__ = ["ignore", "listen"]

_PAUSE = 1.0
"""Seconds: events come by the hundred while the kernel reclaims, and one look finds all that is lost."""

LINGERING = 64
"""So small a part of all memory may stay held for some milliseconds after its use: it could not be taken at once."""


class Listener(Protocol):
    """What is told."""

    def under_pressure(self) -> None: ...


listeners: weakref.WeakValueDictionary[int, Listener] = weakref.WeakValueDictionary()
_lock = threading.RLock()  # a finalizer may come while we hold it
_monitor: PressureMonitor | None = None
_thread: threading.Thread | None = None
_born: Process = process()
_refused_until = 0.0


def listen(cache: Listener) -> bool:
    """Tell `cache` from now on. False: not yet; ask again at its next change."""
    global _monitor, _thread, _born
    if _refused_until and time.monotonic() < _refused_until:
        return False
    catch_up()
    with _lock:
        listeners[id(cache)] = cache
        if _monitor is not None:
            return True
        try:
            monitor = PressureMonitor()
        except UnsupportedError as error:
            if error.__cause__ is None:  # no thread to watch: else nothing tells, which is no news
                return True
            return _refused(cache, error)
        if not monitor.sources:
            monitor.end()
            return True
        _monitor, _born = monitor, process()
        _core.let_linger(total() // LINGERING)
        thread = _thread = threading.Thread(
            target=_run, args=(_monitor,), name="mvolatile-cache", daemon=True
        )
    # Not under the lock: this waits until the thread runs, and before that it may run another cache's finalizer,
    # which waits for the lock.
    _core.work(1)
    try:
        start_thread(thread)
    except (RuntimeError, MemoryError) as error:
        _core.work(-1)
        with _lock:
            if _monitor is monitor:
                _monitor = _thread = None
        monitor.end()
        return _refused(cache, error)
    return True


def _refused(cache: Listener, error: BaseException) -> bool:
    """No thread is to be had now."""
    global _refused_until
    listeners.pop(id(cache), None)
    _refused_until = time.monotonic() + TRY_AGAIN
    tell_once(
        "caches are not told of memory pressure; they notice losses when values are read, and let the kernel have what "
        "they are filling only when it is full",
        error,
    )
    return False


def ignore(cache: Listener, wait: bool = True) -> None:
    """Tell it no more. If it was the last, the thread ends, and with `wait` is gone on return. A finalizer must not
    wait: it may run in the middle of a change, for the end of which the thread waits.
    """
    global _monitor, _thread
    catch_up()
    with _lock:
        listeners.pop(id(cache), None)
        if listeners or _monitor is None:
            return
        monitor, thread, _monitor, _thread = _monitor, _thread, None, None
    monitor.end()
    if wait:
        join(thread, _born)


def _run(monitor: PressureMonitor) -> None:
    _core.work(0)
    last = float("-inf")
    try:
        for event in monitor:
            if event.when - last < _PAUSE:
                continue
            tell_all()
            last = event.when
    finally:
        _core.work(-1)


def tell_all() -> None:
    """There is pressure now. What one cache raises is for `threading.excepthook`; the others are told all the same."""
    told: list[Callable[[], None]] = [cache.under_pressure for cache in list(listeners.values())]
    while told:
        try:
            told.pop()()
        except Exception:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _start_over() -> None:
    """The thread stayed behind in the parent; the next `listen` starts one."""
    global _lock, _monitor, _thread, _refused_until
    _lock = threading.RLock()
    _monitor = _thread = None
    _refused_until = 0.0


at_start_over(_start_over)
