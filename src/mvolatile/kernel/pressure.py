"""Being told that memory grows short, by whatever this kernel and this container offer."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from .. import _core
from ..errors import UnsupportedError
from .cgroup import MemoryCgroup, memory_cgroup
from .pressure_sources import Source, sources
from .threads import join, process, start_thread

__all__ = ["PressureEvent", "PressureMonitor"]

_LONGEST = 1 << 62
"""Nanoseconds: what the core takes at most, a century and a half."""


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
    the others are not used. Raises UnsupportedError if nothing is left, or no thread is to be had to watch them.

    A PSI source fires when tasks stalled for `stall_ms` within `window_ms`, at most once per window; ordinary
    users need a window that is a multiple of 2,000. `level` ('low', 'medium', 'critical') is for version 1;
    'low' reports any reclaim in the cgroup. On Linux 6.1 version 1 lets nobody but root listen, in a cgroup of the
    user's own neither.

    Threads: any may wait, in `wait`, by iterating, or in the thread that `call` starts; each event is for one of them,
    and events of a source that come while nobody waits are one. `close` may come from any thread and ends all three.
    The sources are watched by a thread of the core's whose descriptors are in no table of the program's: closing all
    descriptors does nothing to a monitor, and a monitor nothing to the program's files. That thread goes within a
    second of `close`. Fork: in a child, also one that was forked in C, the monitor is closed; the child must make its
    own.
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
        self._thread: threading.Thread | None = None
        self._born = process()
        self._sources: list[Source] = sources(
            cgroup or memory_cgroup(), stall_ms * 1000, window_ms * 1000, level, environ
        )
        try:
            self._listener = _core.Listener(tuple(source.described() for source in self._sources))
        except OSError as error:
            raise UnsupportedError(f"no thread to watch for memory pressure ({error})") from error
        self._refused = [code != 0 for code in self._listener.refused]
        if self._sources and all(self._refused):
            reasons = "; ".join(f"{name}: {why}" for name, why in self.refused.items())
            raise UnsupportedError(f"nothing tells of memory pressure here ({reasons})")

    @property
    def sources(self) -> tuple[str, ...]:
        """What is listened to; a cgroup that was removed no longer is, and nothing once it is closed."""
        if self._listener.ended:
            return ()
        codes = zip(self._sources, self._listener.refused, strict=True)
        return tuple(source.name for source, code in codes if not code)

    @property
    def refused(self) -> dict[str, str]:
        """Why the others are not: the kernel's words, by source."""
        return {
            source.short if from_the_start else source.name: os.strerror(code)
            for source, code, from_the_start in zip(
                self._sources, self._listener.refused, self._refused, strict=True
            )
            if code
        }

    def wait(self, timeout: float | None = None) -> PressureEvent | None:
        """Block until there is pressure; None after `timeout` seconds, or when the monitor is closed.

        It is the thread of the operating system that waits: green threads (gevent, eventlet) all do.
        """
        found = self._listener.wait(_nanoseconds(timeout))
        return None if found is None else PressureEvent(self._sources[found[0]].name, found[1] / 1e9)

    def __iter__(self) -> Iterator[PressureEvent]:
        """Each event as it comes, until the monitor is closed."""
        while (event := self.wait()) is not None:
            yield event

    def call(self, callback: Callable[[PressureEvent], object]) -> None:
        """Run `callback` for each event, in a daemon thread of this monitor's own, until `close`.

        An exception in it goes to `threading.excepthook` and ends the thread. It may itself call `close`.
        `RuntimeError` where no thread is to be had, as at the interpreter's end or where `threading` gives green ones.
        """
        if self._thread is not None:
            raise ValueError("this monitor already calls back")

        def run() -> None:
            for event in self:
                callback(event)

        thread = threading.Thread(target=run, name="mvolatile-pressure", daemon=True)
        start_thread(thread)
        self._thread = thread

    def end(self) -> None:
        """As `close`, but waits for nobody, so that finalizers may call it."""
        self._listener.end()

    def close(self) -> None:
        """Wake and end every waiter, and wait for a callback under way. A second call does nothing."""
        self.end()
        join(self._thread, self._born)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _nanoseconds(timeout: float | None) -> int:
    if timeout is None or timeout == math.inf:
        return -1
    return min(_LONGEST, max(0, math.ceil(timeout * 1e9)))
