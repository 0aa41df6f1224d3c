"""A client, as the keeper sees it, and what it hands over."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from typing import Any

from .._core import Hints

__all__ = ["Client", "descriptors", "is_memfd"]

_PEER = struct.Struct("3i")
_SO_PEERPIDFD = 77  # Linux 6.5


class Client:
    """One connection."""

    __slots__ = (
        "greeted",
        "hints",
        "hints_of",
        "mailbox",
        "mailbox_bytes",
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

    def close(self) -> None:
        """Let go of all that was its."""
        self.socket.close()
        for descriptor in (self.pidfd, self.mailbox):
            if descriptor >= 0:
                os.close(descriptor)


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
