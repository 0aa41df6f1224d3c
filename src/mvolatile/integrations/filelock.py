"""A lock by name among processes, that the kernel lets go when who has it dies.

It is a lock of one byte of a file, at an offset that the name hashes to, so any number of names needs one file. It
belongs to the open file description (``F_OFD_SETLKW``, Linux 3.15): threads of one process exclude each other, too.

Rejected: ``flock(2)``, which wants a file a name; a key in the cache itself, which is gone when the kernel wants its
memory and stays when its owner dies; ``lockf(3)``, which the process lets go whenever it closes any descriptor of that
file.

The bad schedules: a child that was forked while the lock is held has the description, too, so a dead parent's lock
would live on in it: the child closes its copies. A program that closes all descriptors lets the lock go, and its own
file may get the number: whoever releases looks whether it is still that file, and still his. A number is forgotten
before it is closed: another thread may have it in the next moment, and would not be known to hold its lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

__all__ = ["FileLock"]

_FLOCK = struct.Struct("@hhqqi4x")  # type, whence, start, length, pid: as 64-bit systems lay it out

_open: dict[int, os.stat_result] = {}
"""Descriptors that are ours, and what each is of."""


class FileLock:
    """A lock of `name` in the file `path`, which is made if it is not there.

    One object may be used by many threads: who acquires waits for the others. Another thread may release. A forked
    child does not have what its parent holds. `OSError` where there is no descriptor left.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._offset = int.from_bytes(digest, "big") >> 2  # of 2**62; two names of one offset take turns
        self._held: tuple[int, os.stat_result, int] | None = (
            None  # and the process; who has the lock has this field
        )

    def acquire(self, wait: bool = True) -> bool:
        """Have the lock; without `wait` only if it is free."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened = _open[descriptor] = os.fstat(descriptor)
        taken = False
        try:
            taken = self._locked(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK)
        finally:
            if not taken:
                _close(descriptor, opened)
        if taken:
            self._held = (descriptor, opened, os.getpid())
        return taken

    def _locked(self, descriptor: int, command: int) -> bool:
        try:
            fcntl.fcntl(descriptor, command, self._lock(fcntl.F_WRLCK))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _lock(self, kind: int) -> bytes:
        return _FLOCK.pack(kind, os.SEEK_SET, self._offset, 1, 0)

    def release(self) -> None:
        """Let go of it. In a child that was forked while it was held, or where all descriptors were closed: nothing."""
        held, self._held = self._held, None
        if held is None:
            return
        descriptor, opened, process = held
        # A child that was forked in C has a copy still: it must not unlock, and closing alone would not.
        if process == os.getpid() and _is_ours(descriptor, opened):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, self._lock(fcntl.F_UNLCK))
            _close(descriptor, opened)

    def locked(self) -> bool:
        """Whether anybody has it."""
        if self.acquire(wait=False):
            self.release()
            return False
        return True


def _is_ours(descriptor: int, opened: os.stat_result) -> bool:
    with suppress(OSError):
        return _open.get(descriptor) is opened and os.path.samestat(os.fstat(descriptor), opened)
    return False


def _close(descriptor: int, opened: os.stat_result) -> None:
    ours = _is_ours(descriptor, opened)
    if _open.get(descriptor) is opened:
        del _open[descriptor]
    if ours:
        os.close(descriptor)


def _close_copies() -> None:
    for descriptor, opened in list(_open.items()):
        _close(descriptor, opened)


os.register_at_fork(after_in_child=_close_copies)
