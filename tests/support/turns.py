"""Tests that need the machine to themselves, among others that run beside them: in workers of one pytest, or in two."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["INSIDE", "Turns"]

INSIDE = "MVOLATILE_TEST_TURN"
"""Set while a test runs: a pytest that it starts has its turn already, and would wait for ever."""


class Turns:
    """A lock that ordinary tests share and that a test marked ``alone`` has for itself.

    The bad schedule: two workers whose ordinary tests overlap again and again never leave the room empty. So whoever
    wants to be alone shuts the door, and waits inside it for those who are in the room to go. The kernel opens both for
    a process that dies.
    """

    def __init__(self, directory: Path) -> None:
        self._door, self._room = (
            os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room")
        )

    def take(self, alone: bool) -> None:
        """Wait for it. What was held is let go first: two who hold the room and want it for themselves would wait for
        each other.
        """
        fcntl.flock(self._room, fcntl.LOCK_UN)
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def give(self) -> None:
        """Let it go; also for forked children, who have the same open file."""
        fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give, and forget."""
        os.close(self._door)
        os.close(self._room)
