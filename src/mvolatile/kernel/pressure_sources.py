"""What the kernel offers to be woken by when memory grows short, each as a descriptor to poll.

Opening one raises OSError where the kernel or the container refuses it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from pathlib import Path
from typing import Protocol

__all__ = ["EventsFile", "GivenFile", "PressureLevel", "PsiTrigger", "Source"]


class Source(Protocol):
    """A descriptor that `poll` reports with `mask`; `consume` then says whether that was pressure."""

    name: str
    fd: int
    mask: int

    def consume(self, events: int) -> bool:
        """Take what `poll` reported, so that the next one waits for more; OSError: the source has ended."""
        ...

    def close(self) -> None:
        """Close every descriptor."""


class PsiTrigger:
    """A PSI trigger: fires at most once per window in which tasks stalled for that long.

    Ordinary users need Linux 6.5 and a window that is a multiple of 2 s; on cgroup files 6.7.
    """

    mask = select.POLLPRI

    def __init__(self, path: str | os.PathLike[str], stall_us: int, window_us: int) -> None:
        self.name = f"PSI trigger on {os.fspath(path)}"
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(self.fd, f"some {stall_us} {window_us}\0".encode())
        except OSError:
            os.close(self.fd)
            raise

    def consume(self, events: int) -> bool:
        """The poll itself has taken the event; an error is the last word of a cgroup that was removed."""
        if events & select.POLLERR:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self.name)
        return True

    def close(self) -> None:
        """The kernel drops the trigger with its descriptor."""
        os.close(self.fd)


class PressureLevel:
    """Cgroup version 1's ``memory.pressure_level``: the kernel's own reclaim in this cgroup, as it happens.

    `level` is 'low' (any reclaim at all), 'medium' or 'critical'.
    """

    mask = select.POLLIN

    def __init__(self, cgroup: Path, level: str) -> None:
        self.name = f"memory.pressure_level ({level}) of {cgroup}"
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._level_fd = os.open(cgroup / "memory.pressure_level", os.O_RDONLY | os.O_CLOEXEC)
            try:
                (cgroup / "cgroup.event_control").write_text(f"{self.fd} {self._level_fd} {level}")
            except OSError:
                os.close(self._level_fd)
                raise
        except OSError:
            os.close(self.fd)
            raise

    def consume(self, events: int) -> bool:
        """Empty the counter; nothing in it means that another waiter was faster."""
        try:
            return os.eventfd_read(self.fd) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Closing the eventfd unregisters it."""
        os.close(self.fd)
        os.close(self._level_fd)


class EventsFile:
    """Cgroup version 2's ``memory.events``: the limits were met. It also changes for things that are no
    pressure.
    """

    mask = select.POLLPRI
    _pressing = frozenset({"high", "max", "oom"})

    def __init__(self, cgroup: Path) -> None:
        path = cgroup / "memory.events"
        self.name = os.fspath(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._last = self._read()

    def _read(self) -> int:
        counts = (line.split() for line in os.pread(self.fd, 4096, 0).decode().splitlines())
        return sum(int(count) for key, count in counts if key in self._pressing)

    def consume(self, events: int) -> bool:
        """Reading the file also arms it again."""
        before, self._last = self._last, self._read()
        return self._last > before

    def close(self) -> None:
        """Stop listening."""
        os.close(self.fd)


class GivenFile:
    """The file that the service manager told us to watch: a pressure file, a FIFO or a socket."""

    def __init__(self, path: str, to_write: bytes) -> None:
        self.name = f"MEMORY_PRESSURE_WATCH={path}"
        mode = os.stat(path).st_mode
        self._socket: socket.socket | None = None
        # Data arrives through a FIFO or a socket; a file of the kernel's signals an exceptional condition.
        self.mask = select.POLLPRI if stat.S_ISREG(mode) else select.POLLIN
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(path)
                self._socket.setblocking(False)
            except OSError:
                self._socket.close()
                raise
            self.fd = self._socket.fileno()
        else:
            # A FIFO is opened for writing as well, or it would signal hang-up whenever no writer is there.
            readonly = stat.S_ISREG(mode) and not to_write
            access = os.O_RDONLY if readonly else os.O_RDWR
            self.fd = os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if to_write:
                os.write(self.fd, to_write)
        except OSError:
            self.close()
            raise

    def consume(self, events: int) -> bool:
        """Drain what was sent; a sender that hung up, or a cgroup that was removed, ends the source."""
        if events & (select.POLLERR | select.POLLHUP):
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE), self.name)
        if self.mask == select.POLLPRI:
            return True
        got = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                got = True
        return got

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self.fd)
