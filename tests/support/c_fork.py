"""Work in a forked child: of Python's fork, or of C's, as uWSGI forks, where none of Python's hooks runs."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["c_fork", "held_elsewhere", "in_c_child", "in_child"]

_libc = ctypes.PyDLL(None)  # the fork is made with the GIL held


def c_fork() -> int:
    """fork(2) by the C library."""
    pid: int = _libc.fork()
    return pid


def in_c_child(body: Callable[[], None], seconds: int = 120) -> None:
    """Run `body` in such a child, as `in_child` does."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        _others_sleep()
    in_child(body, seconds, c_fork)


def _others_sleep() -> None:
    """Until all other threads do, in system calls. Who runs Python without a GIL has the lock of some object now and
    then, and a child would wait for it for ever.
    """
    before: list[list[str]] = []
    while (seen := _threads_beside()) != before or any("sleeping" not in lines[0] for lines in seen):
        before = seen
        time.sleep(0.01)


def _threads_beside() -> list[list[str]]:
    """Of each its state, and how often it was switched to."""
    seen = []
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(threading.get_native_id()):
            with suppress(OSError):  # it has ended
                lines = (task / "status").read_text().splitlines()
                seen.append([line for line in lines if line.startswith(("State", "vol", "nonvol"))])
    return seen


def in_child(body: Callable[[], None], seconds: int = 200, fork: Callable[[], int] = os.fork) -> None:
    """Run `body` in a forked child. It must end well, and within `seconds`: it shows where it hangs."""
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.dup2(write, 2)
            # Not dump_traceback_later(), which waits for a thread that stayed in the parent.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.register(signal.SIGALRM, chain=True)
            signal.alarm(seconds)
            body()
            os._exit(0)
        except BaseException:
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(write)
    said = b""
    while piece := os.read(read, 65536):
        said += piece
    os.close(read)
    _, status = os.waitpid(pid, 0)
    sys.stdout.write(said.decode(errors="replace"))
    assert os.waitstatus_to_exitcode(status) == 0, said.decode(errors="replace")


@contextmanager
def held_elsewhere(lock: AbstractContextManager[Any]) -> Iterator[None]:
    """Inside, another thread has the lock, and wants nothing else: it is in a system call.

    Were it on its way there, it might want Python's lock, and a child that C forks then would hang for that.
    """
    read, write = os.pipe()

    def hold() -> None:
        with lock:
            os.read(read, 1)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    while not _reads_a_pipe(thread):
        pass
    try:
        yield
    finally:
        os.write(write, b"x")
        thread.join()
        os.close(read)
        os.close(write)


def _reads_a_pipe(thread: threading.Thread) -> bool:
    """By the number of read(2); of a thread that runs the kernel says no more than that."""
    told = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return told[0] == {"x86_64": "0", "aarch64": "63"}[os.uname().machine]
