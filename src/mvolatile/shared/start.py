"""How a keeper begins and ends its life: its own session, one lock, one socket."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .._core import let_others_read
from .keeper import Keeper
from .place import LOOK_AGAIN, Place

__all__ = ["keep", "main"]

BACKLOG = 4096
PATIENCE = 10.0
"""Seconds to wait for the lock of a keeper that is about to end."""


def main(arguments: list[str]) -> NoReturn:
    """In a process that was started for it: fork the keeper, and end once it serves, or has found another."""
    directory, name, most, linger = arguments
    said, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(0 if os.read(said, 1) else 1)
    os.close(said)
    code = 1
    try:
        os.chdir("/")
        if log := os.environ.get("MVOLATILE_KEEPER_LOG"):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        place = Place(name, Path(directory))

        def ready() -> None:
            os.write(tell, b"1")
            os.close(tell)

        keep(place, None if most == "-" else int(most), float(linger), ready)
        code = 0
    except SystemExit:  # SIGTERM to one that was ending by itself
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(code)  # nothing is to be torn down that the kernel does not take


def keep(
    place: Place, max_bytes: int | None, linger: float, ready: Callable[[], object], foreground: bool = False
) -> bool:
    """Be the keeper of that place until nobody has used it for `linger` seconds, or SIGTERM. False: there is
    another.
    """
    _be_a_service(foreground)
    _be_called(f"mvolatile:{place.name}")
    lock = _lock(place)
    if lock is None:
        ready()
        return False
    path = place.path("sock")
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    with place.address() as address:
        listener.bind(address)
    keeper = Keeper(listener, place.name, max_bytes, linger, place.path("due"))
    listener.listen(BACKLOG)
    ours = os.fstat(lock).st_ino, os.lstat(path).st_ino
    ready()
    try:
        keeper.serve(lambda: _inodes(place) == ours)
    except SystemExit:  # SIGTERM
        pass
    finally:
        # Whoever is in the queue by now is reset, and starts another once the lock is free, which is when we are dead.
        if _inodes(place) == ours:
            keeper.duties.close()
            os.unlink(path)
        listener.close()
    return True


def _inodes(place: Place) -> tuple[int, int] | None:
    """Of the lock and the socket. Where somebody removed them, others make their own: there must not be two
    keepers.
    """
    try:
        return os.lstat(place.path("lock")).st_ino, os.lstat(place.path("sock")).st_ino
    except OSError:
        return None


def _lock(place: Place) -> int | None:
    """The keeper's lock, or None if another serves. It is held until this process has ended."""
    until = time.monotonic() + PATIENCE
    while True:
        lock = os.open(place.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == os.lstat(place.path("lock")).st_ino:
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(lock)
        with suppress(OSError):
            if (channel := place.connect()) is not None:
                channel.close()
                return None
        if time.monotonic() > until:
            return None
        time.sleep(LOOK_AGAIN)


def _be_called(name: str) -> None:
    """By ``ps -o comm``, ``top`` and the kernel's messages, which cut it off after 15 bytes."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _be_a_service(foreground: bool) -> None:
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, (lambda *_: sys.exit(0)) if foreground else signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    let_others_read()
