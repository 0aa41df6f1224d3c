"""Keepers in a directory: their number, their end."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mvolatile import SharedCache
from mvolatile.shared.place import Place


def entries(path: Path) -> list[str]:
    """The lines of a file that may not be there."""
    return path.read_text().splitlines() if path.exists() else []


def keeper_pid(name: str, directory: Path | None = None) -> int | None:
    """Of the keeper that listens there, as the kernel tells it."""
    channel = Place(name, directory).connect()
    if channel is None:
        return None
    try:
        return channel.pid
    finally:
        channel.close()


def until(condition: Callable[[], Any], patience: float = 200.0) -> Any:
    """What `condition` answers once that is true."""
    end = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
    return answer


def is_free(lock: Path) -> bool:
    """Whether the keeper whose lock it is has ended, and its memory with it."""
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def end_keepers(directory: Path, how: int = signal.SIGTERM) -> None:
    """All there are in it; returns when they are gone."""
    for lock in directory.glob("*.lock"):
        name = lock.name.rsplit(".", 2)[0]
        pid = keeper_pid(name, directory)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, how)
        until(partial(is_free, lock))


def kill_keeper(cache: SharedCache[Any, Any]) -> int:
    """As the kernel does when memory is short; returns when it is gone."""
    pid = keeper_pid(cache.name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_free(Place(cache.name).path("lock")))
    return pid


def in_child(body: Callable[[], Any]) -> None:
    """Run `body` in a forked child, which must end well."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(200)  # what hangs there ends
        code = 1
        try:
            body()
            code = 0
        except BaseException:
            said = traceback.format_exc().encode()
            for end in (write, 2):  # the program may have closed either
                with suppress(OSError):
                    os.write(end, said)
        finally:
            os._exit(code)
    os.close(write)
    said_there = b""
    while piece := os.read(read, 65536):
        said_there += piece
    os.close(read)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said_there.decode()
