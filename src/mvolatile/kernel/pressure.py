"""Being told that memory grows short, by whatever this kernel and this container offer."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import UnsupportedError
from . import psi
from .cgroup import MemoryCgroup, memory_cgroup
from .pressure_sources import EventsFile, GivenFile, PressureLevel, PsiTrigger, Source

__all__ = ["PressureEvent", "PressureMonitor"]

_SILENCED = "/dev/null"
"""A service manager that names this file for MEMORY_PRESSURE_WATCH asks for no watching at all."""


@dataclass(frozen=True, slots=True)
class PressureEvent:
    """Memory grew short: which `source` said so, and when (seconds of `time.monotonic`)."""

    source: str
    when: float


class PressureMonitor:
    """Waits for memory pressure on this process's cgroup and on the machine.

    Sources, all those that can be opened: the file that systemd names in ``MEMORY_PRESSURE_WATCH`` (then that
    one alone, and none at all for ``/dev/null``); else the cgroup's ``memory.pressure_level`` (version 1) or
    ``memory.pressure`` and ``memory.events`` (version 2), and PSI of the whole machine. `refused` tells why
    the others are not used. Raises UnsupportedError if nothing is left.

    A PSI source fires when tasks stalled for `stall_ms` within `window_ms`, at most once per window; ordinary
    users need a window that is a multiple of 2,000. `level` ('low', 'medium', 'critical') is for version 1;
    'low' reports any reclaim in the cgroup. On Linux 6.1 version 1 lets nobody but root listen, in a cgroup of the
    user's own neither.

    One thread waits at a time, in `wait`, by iterating, or in the thread that `call` starts; `close` may come
    from any thread and ends all three. After `fork` the child must make its own: parent and child would take
    each other's events.
    """

    def __init__(
        self,
        cgroup: MemoryCgroup | None = None,
        *,
        stall_ms: int = 150,
        window_ms: int = 2000,
        level: str = "low",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.refused: dict[str, str] = {}
        self._sources: dict[int, Source] = {}
        self._thread: threading.Thread | None = None
        self._closed = self._ended = False
        self._pid = os.getpid()
        self._turn = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        openers = _openers(cgroup or memory_cgroup(), stall_ms * 1000, window_ms * 1000, level, environ)
        for name, opener in openers.items():
            try:
                source = opener()
            except OSError as error:
                self.refused[name] = error.strerror or str(error)
            else:
                self._sources[source.fd] = source
                self._poll.register(source.fd, source.mask)
        if openers and not self._sources:
            self.close()
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
            raise UnsupportedError(f"nothing tells of memory pressure here ({reasons})")

    @property
    def sources(self) -> tuple[str, ...]:
        """What is listened to; a cgroup that was removed no longer is."""
        return tuple(source.name for source in self._sources.values())

    def wait(self, timeout: float | None = None) -> PressureEvent | None:
        """Block until there is pressure; None after `timeout` seconds, or when the monitor is closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._turn:
            while not self._closed and not self._ended:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = self._poll.poll(None if left is None else left * 1000)
                for fd, events in ready:
                    if fd != self._wake and self._is_pressure(fd, events):
                        return PressureEvent(self._sources[fd].name, time.monotonic())
                if not ready:
                    return None
        return None

    def _is_pressure(self, fd: int, events: int) -> bool:
        try:
            return self._sources[fd].consume(events)
        except OSError as error:
            ended = self._sources.pop(fd)
            self.refused[ended.name] = error.strerror or str(error)
            self._poll.unregister(fd)
            ended.close()
            return False

    def __iter__(self) -> Iterator[PressureEvent]:
        """Each event as it comes, until the monitor is closed."""
        while (event := self.wait()) is not None:
            yield event

    def call(self, callback: Callable[[PressureEvent], object]) -> None:
        """Run `callback` for each event, in a daemon thread of this monitor's own, until `close`.

        An exception in it goes to `threading.excepthook` and ends the thread. It may itself call `close`.
        """
        if self._thread is not None:
            raise ValueError("this monitor already calls back")

        def run() -> None:
            for event in self:
                callback(event)

        self._thread = threading.Thread(target=run, name="mvolatile-pressure", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Have every waiter give up. Waits for nobody, so finalizers may call it; `close` is still to come."""
        self._ended = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Wake and end every waiter, then give the descriptors back. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            # The thread that held the turn was left behind by fork: nobody here would ever give it back.
            self._close_descriptors()
            return
        os.eventfd_write(self._wake, 1)
        if self._thread not in (None, threading.current_thread()):
            self._thread.join()
        # A waiter that was between its check and its poll sees the wake-up, and only then lets go of its
        # turn.
        with self._turn:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        os.close(self._wake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an interrupted __init__
            self.close()


def _openers(
    cgroup: MemoryCgroup | None, stall_us: int, window_us: int, level: str, environ: Mapping[str, str]
) -> dict[str, Callable[[], Source]]:
    given = environ.get("MEMORY_PRESSURE_WATCH")
    if given == _SILENCED:
        return {}
    if given:
        to_write = base64.b64decode(environ.get("MEMORY_PRESSURE_WRITE", ""))
        return {f"MEMORY_PRESSURE_WATCH={given}": lambda: GivenFile(given, to_write)}
    openers: dict[str, Callable[[], Source]] = {}
    if cgroup is not None and cgroup.version == 1:
        openers["memory.pressure_level"] = lambda: PressureLevel(cgroup.path, level)
    elif cgroup is not None:
        openers["memory.pressure"] = lambda: PsiTrigger(cgroup.path / "memory.pressure", stall_us, window_us)
        openers["memory.events"] = lambda: EventsFile(cgroup.path)
    openers[psi.SYSTEM] = lambda: PsiTrigger(psi.SYSTEM, stall_us, window_us)
    return openers
