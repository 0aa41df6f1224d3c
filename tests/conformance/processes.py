"""The real side: a tree of processes, each of which executes commands that come over a pipe and relays those that are
meant for its children.

At the root stands a *nursery* that has the library loaded and not used, so that each program begins in a process
where the library sets itself up anew, in the tier of that program. All of them sit on one CPU: pages reach the LRU by
way of per-CPU lists, where reclaim does not find them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NoReturn

TIMEOUT = 600.0
"""Seconds after which a process that does not answer hangs; on a busy machine a fork alone may take many."""
VALUES = 200
"""What a page can be filled with: one byte value, 0 to so many."""


class Died(Exception):  # noqa: N818 - it tells of a process, not of an error of ours
    """A process did not survive a command; `status` as `subprocess` gives it (-7: SIGBUS)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"died with {status}")
        self.status = status


class Process:
    """One process of the tree, seen from inside."""

    def __init__(self, parent: Connection, commands: type[Any]) -> None:
        self.parent = parent
        self.children: dict[int, tuple[int, Connection]] = {}
        self.commands = commands()

    def serve(self) -> NoReturn:
        """Answer commands until the parent closes its end; then the children go, and this process."""
        status = 3
        try:
            while True:
                try:
                    path, name, args = self.parent.recv()
                except (EOFError, ConnectionResetError):
                    break
                self.parent.send(self.answer(path, name, args))
            for number in list(self.children):
                self.exit(number)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def answer(self, path: Sequence[int], name: str, args: tuple[Any, ...]) -> tuple[str, Any]:
        if path:
            pid, conn = self.children[path[0]]
            try:
                conn.send((path[1:], name, args))
                return conn.recv()
            except (EOFError, ConnectionResetError, BrokenPipeError):
                conn.close()
                del self.children[path[0]]
                return "died", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            if name in ("fork", "exit"):
                return "ok", getattr(self, name)(*args)
            return "ok", getattr(self.commands, name)(*args)
        except BaseException as error:
            return "raised", error

    def fork(self, number: int) -> None:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            for conn in (ours, self.parent, *(conn for _, conn in self.children.values())):
                conn.close()
            self.parent, self.children = theirs, {}
            self.serve()
        theirs.close()
        self.children[number] = pid, ours

    def exit(self, number: int) -> int:
        pid, conn = self.children.pop(number)
        conn.close()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Nursery:
    """The tree, seen from the test; a context manager. `commands` is ``"module:class"``."""

    def __init__(self, commands: str) -> None:
        ours, theirs = Pipe()
        self._conn = ours
        tests = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.processes", str(theirs.fileno()), commands],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._next = 0

    def begin(self, tier: str) -> int:
        """A fresh process; its number is the beginning of every path in its tree."""
        self._next += 1
        self.call((), "fork", self._next)
        self.call((self._next,), "begin", tier)
        return self._next

    def end(self, number: int) -> int:
        """The process and all below it are gone afterwards; its exit status."""
        return int(self.call((), "exit", number))

    def call(self, path: Sequence[int], name: str, *args: Any) -> Any:
        """The command's result; what it raised is raised here. `Died`, or `TimeoutError` for a process that hangs."""
        self._conn.send((tuple(path), name, args))
        if not self._conn.poll(TIMEOUT):
            raise TimeoutError(f"{name}{args} has not ended after {TIMEOUT} s")
        kind, value = self._conn.recv()
        if kind == "died":
            raise Died(value)
        if kind == "raised":
            raise value
        return value

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *unused: object) -> None:
        self._conn.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def main() -> NoReturn:
    import importlib

    module, name = sys.argv[2].split(":")
    commands = getattr(importlib.import_module(module), name)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    Process(Connection(int(sys.argv[1])), commands).serve()


class Bytes:
    """Pages filled and read through system calls, which answer EFAULT where a touch would raise SIGBUS."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        for call in (self._libc.pread, self._libc.pwrite):
            call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
            call.restype = ctypes.c_ssize_t
        self._source, self._sink = os.memfd_create("values"), os.memfd_create("seen")
        for value in range(VALUES):
            os.pwrite(self._source, bytes([value]) * mmap.PAGESIZE, value * mmap.PAGESIZE)

    def _result(self, done: int) -> None:
        if done != mmap.PAGESIZE:
            number = ctypes.get_errno()
            raise OSError(number, f"{done} bytes: {os.strerror(number)}")

    def fill(self, address: int, value: int) -> None:
        """pread(2) into a page; `OSError`."""
        self._result(self._libc.pread(self._source, address, mmap.PAGESIZE, value * mmap.PAGESIZE))

    def see(self, address: int) -> int:
        """pwrite(2) from a page: the value that fills it, -1 for a mixture; `OSError`."""
        self._result(self._libc.pwrite(self._sink, address, mmap.PAGESIZE, 0))
        return value_of(os.pread(self._sink, mmap.PAGESIZE, 0))


def value_of(data: bytes) -> int:
    """The byte that fills it all, or -1."""
    return data[0] if data.count(data[0]) == len(data) else -1


if __name__ == "__main__":
    main()
