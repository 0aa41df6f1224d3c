"""Told of memory pressure, all caches look at once what they lost, and let go what they were still filling.

One daemon thread for the process. It starts when a cache first stores a value, and ends with the last such
cache. Where nothing tells of pressure, losses are still noticed: when they are read, and whenever a segment fills.
A service manager turns it off with ``MEMORY_PRESSURE_WATCH=/dev/null``, as systemd's protocol says.

Python 3.12 and later warn (`DeprecationWarning`) when a process that has a thread forks. To end it before a fork
would have the fork wait for it, and it may wait for a cache in whose middle the forking thread is; so it stays, and
a child begins without it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Protocol

from ..errors import UnsupportedError
from ..kernel.pressure import PressureMonitor

__all__ = ["ignore", "listen", "start_over_in_child"]

_PAUSE = 1.0
"""Seconds: events come by the hundred while the kernel reclaims, and one look finds all that is lost."""


class Listener(Protocol):
    """What is told."""

    def _under_pressure(self) -> None: ...


_listeners: weakref.WeakValueDictionary[int, Listener] = weakref.WeakValueDictionary()
_lock = threading.RLock()  # a finalizer may come while we hold it
_monitor: PressureMonitor | None = None
_thread: threading.Thread | None = None


def listen(cache: Listener) -> None:
    """Tell `cache` from now on."""
    global _monitor, _thread
    with _lock:
        _listeners[id(cache)] = cache
        if _monitor is not None:
            return
        try:
            monitor = PressureMonitor()
        except (UnsupportedError, OSError):
            return
        if not monitor.sources:
            monitor.close()
            return
        _monitor = monitor
        thread = _thread = threading.Thread(
            target=_run, args=(_monitor,), name="mvolatile-cache", daemon=True
        )
    # Not under the lock: this waits until the thread runs, and before that it may run another cache's finalizer,
    # which waits for the lock.
    thread.start()


def ignore(cache: Listener, wait: bool = True) -> None:
    """Tell it no more. If it was the last, the thread ends, and with `wait` is gone on return. A finalizer must not
    wait: it may run in the middle of a change, for the end of which the thread waits.
    """
    global _monitor, _thread
    with _lock:
        _listeners.pop(id(cache), None)
        if _listeners or _monitor is None:
            return
        monitor, thread, _monitor, _thread = _monitor, _thread, None, None
    monitor.end()
    if wait and thread is not None and thread.ident is not None and thread is not threading.current_thread():
        thread.join()


def _run(monitor: PressureMonitor) -> None:
    last = float("-inf")
    with monitor:
        for event in monitor:
            if event.when - last < _PAUSE:
                continue
            tell_all()
            last = event.when


def tell_all() -> None:
    """There is pressure now."""
    told: list[Callable[[], None]] = [cache._under_pressure for cache in list(_listeners.values())]
    while told:
        told.pop()()


def start_over_in_child() -> None:
    """The thread stayed behind in the parent; the next `listen` starts one."""
    global _lock, _monitor, _thread
    _lock = threading.RLock()
    if _monitor is not None:
        _monitor.close()
    _monitor = _thread = None
