"""A client, as the keeper sees it, and what it hands over."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from .._core import Hints

__all__ = ["Client", "descriptors", "is_memfd"]

_PEER = struct.Struct("3i")
_SO_PEERPIDFD = 77  # Linux 6.5
MOST_MAPPED = 64 << 20
"""Bytes of a mailbox that the keeper maps. To copy from a mapping takes half the time of reading the file; but what a
client's claim of a size takes of the keeper's addresses has a bound.
"""


class Client:
    """One connection."""

    __slots__ = (
        "greeted",
        "hints",
        "hints_of",
        "mailbox",
        "mailbox_bytes",
        "mapped",
        "pid",
        "pidfd",
        "socket",
        "waits",
    )

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.pid, uid, _ = _PEER.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        )
        if uid != os.geteuid():
            raise PermissionError("another user's")
        self.pidfd = _pidfd(connection, self.pid)
        self.greeted = self.waits = False
        self.hints: Hints | None = None
        self.hints_of = 0
        self.mailbox = -1
        self.mailbox_bytes = 0
        self.mapped: mmap.mmap | None = None

    def take_mailbox(self, descriptor: int) -> None:
        """From now on it is this one. One that could be made shorter is never mapped: to touch it were a SIGBUS."""
        self.drop_mailbox()
        self.mailbox, self.mailbox_bytes = descriptor, os.fstat(descriptor).st_size
        if 0 < self.mailbox_bytes <= MOST_MAPPED and is_memfd(descriptor, fcntl.F_SEAL_SHRINK):
            with suppress(OSError, ValueError):
                self.mapped = mmap.mmap(descriptor, self.mailbox_bytes, prot=mmap.PROT_READ)

    def drop_mailbox(self) -> None:
        """Give it back."""
        if self.mapped is not None:
            self.mapped.close()
        if self.mailbox >= 0:
            os.close(self.mailbox)
        self.mailbox, self.mailbox_bytes, self.mapped = -1, 0, None

    def posted(self, nbytes: int) -> memoryview | int:
        """So much of what is in the mailbox, or the descriptor of a file that begins with it."""
        return self.mailbox if self.mapped is None else memoryview(self.mapped)[:nbytes]

    def close(self) -> None:
        """Let go of all that was its."""
        self.socket.close()
        self.drop_mailbox()
        if self.pidfd >= 0:
            os.close(self.pidfd)


def _pidfd(connection: socket.socket, pid: int) -> int:
    """Of the process that connected: it may die and leave the socket to a child that it forked. -1: not to be had."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        with suppress(OSError):
            return os.pidfd_open(pid) if pid > 0 else -1
        return -1


def descriptors(ancillary: Any) -> list[int]:
    """Those that came along."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    return found


def is_memfd(descriptor: int, seals: int) -> bool:
    """Whether it is memory, which makes nobody wait, and has these seals."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & seals == seals
    except OSError:
        return False
