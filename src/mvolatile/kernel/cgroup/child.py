"""A memory cgroup of our own below the one this process is in: a small memory for one experiment.

The machine is never squeezed: a child process joins the cgroup and meets its limit there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from ...errors import UnsupportedError
from .. import files
from . import state
from .locate import MemoryCgroup, memory_cgroup

__all__ = ["ChildCgroup"]

_numbers = itertools.count(1)
_CLOSE_SECONDS = 10.0

_JOIN = 'echo 0 >"$0" || exit 125; exec "$@"'
"""Run by sh: joins the cgroup, then becomes the command. 0 stands for the writer itself, in every pid
namespace.
"""


class ChildCgroup:
    """A cgroup limited to `limit_bytes` of memory and, beyond that, `swap_bytes` of swap.

    A context manager: leaving it (or `close`) kills whatever is still inside and removes the directory.
    Raises `UnsupportedError` naming what is missing where such a cgroup may not be made. Not meant for use by
    several threads at once; a forked child does not own it, and never removes it.
    """

    def __init__(self, limit_bytes: int, swap_bytes: int = 0, *, name: str = "mvolatile") -> None:
        if limit_bytes <= 0 or swap_bytes < 0:
            raise ValueError(
                f"limit_bytes must be positive, swap_bytes not negative: {limit_bytes}, {swap_bytes}"
            )
        own = memory_cgroup()
        if own is None:
            raise UnsupportedError(
                "no memory cgroup can be seen here: cgroupfs must be mounted, with its memory controller"
            )
        parent = own.path if own.version == 1 else _v2_parent(own)
        path = parent / f"{name}-{os.getpid()}-{next(_numbers)}"
        try:
            path.mkdir(mode=0o755)  # a umask of 0 must not let others in
        except OSError as error:
            raise UnsupportedError(
                f"no child cgroup may be made in {parent} ({error.strerror}): "
                "it must be mounted read-write and belong to this user"
            ) from error
        self._cgroup = replace(own, path=path)
        self._finalizer = weakref.finalize(self, _remove, path, own.path, os.getpid())
        try:
            self._swap_bytes = swap_bytes
            self._limit_swap_where_it_cannot_be_counted()
            self.set_limit(limit_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        """The cgroup version, 1 or 2."""
        return self._cgroup.version

    @property
    def path(self) -> Path:
        """The directory in cgroupfs."""
        return self._cgroup.path

    @property
    def limit(self) -> int:
        """The limit in bytes, as the kernel rounded it."""
        limit = files.read_int(self.path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"))
        if limit is None:
            raise ValueError(f"{self.path} is closed")
        return limit

    def wrap(self, command: Sequence[str | os.PathLike[str]]) -> list[str]:
        """`command` as it must be started to join first: its very first page is charged here.

        It keeps its pid and exits with the command's own status; 125 says that joining failed.
        """
        return [
            "/bin/sh",
            "-c",
            _JOIN,
            str(self.path / "cgroup.procs"),
            *(os.fspath(part) for part in command),
        ]

    def add(self, pid: int) -> None:
        """Move a running process here; what it has already been charged for stays with its old cgroup."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        """The processes inside; those of a foreign pid namespace show as 0."""
        return _members(self.path)

    def set_limit(self, limit_bytes: int) -> None:
        """Change the limit. To go below `usage` the kernel reclaims first; what then cannot be freed is
        `OSError` ``EBUSY`` in version 1, and an OOM kill inside the cgroup in version 2.
        """
        if self.version == 2:
            self._write("memory.max", limit_bytes)
            if (self.path / "memory.swap.max").exists():
                self._write("memory.swap.max", self._swap_bytes)
            return
        both = "memory.memsw.limit_in_bytes"
        order = ["memory.limit_in_bytes", both]
        if (self.path / both).exists():
            # The kernel never lets the limit of memory exceed that of memory and swap, not even between two
            # writes.
            if limit_bytes > (files.read_int(self.path / both) or 0):
                order.reverse()
        else:
            order.remove(both)
        for name in order:
            self._write(name, limit_bytes + (self._swap_bytes if name == both else 0))

    def usage(self) -> int:
        """Bytes charged now."""
        return state.usage(self._cgroup) or 0

    def peak(self) -> int | None:
        """The largest usage so far in bytes; None in version 2 before Linux 5.19."""
        return state.peak(self._cgroup)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for this limit."""
        return state.oom_kills(self._cgroup)

    def state(self) -> state.CgroupState:
        """Everything the cgroup's files say."""
        return state.memory_state(self._cgroup)

    @property
    def cgroup(self) -> MemoryCgroup:
        """The same cgroup as `memory_cgroup` would find it from inside."""
        return self._cgroup

    def close(self) -> None:
        """Kill what is inside, wait for it, remove the cgroup. A second call does nothing.

        Raises the last `OSError` if the directory cannot be removed within ten seconds.
        """
        self._finalizer()

    def _write(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))

    def _limit_swap_where_it_cannot_be_counted(self) -> None:
        """Version 1 without swap accounting can forbid swap through swappiness, but not limit it."""
        if self.version == 2 or (self.path / "memory.memsw.limit_in_bytes").exists():
            return
        if self._swap_bytes:
            raise UnsupportedError("limiting swap in cgroup v1 needs the kernel booted with swapaccount=1")
        with contextlib.suppress(OSError):
            self._write("memory.swappiness", 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ChildCgroup v{self.version} {self.path}{'' if self._finalizer.alive else ' closed'}>"


def _v2_parent(own: MemoryCgroup) -> Path:
    """Where version 2 lets a sibling of ours live.

    A cgroup with processes of its own may not limit its children (the root alone may), and we are in ours.
    Moving every process of the container into a leaf first, as nested container engines do, would rearrange
    what is not ours; so we go one up instead, where the controller must be on already, since we have it.
    """
    for directory in own.lineage()[:2]:
        control = directory / "cgroup.subtree_control"
        if "memory" in (files.read(control) or "").split():
            return directory
        with contextlib.suppress(OSError):
            control.write_text("+memory")
            return directory
    raise UnsupportedError(
        f"cgroup v2 allows no limited child in {own.path}, which holds processes, and nothing above can be "
        "written: start from `systemd-run --user --scope`, or move this container's processes into a child "
        "cgroup first"
    )


def _remove(path: Path, home: Path, owner: int) -> None:
    if os.getpid() != owner:
        return
    deadline = time.monotonic() + _CLOSE_SECONDS
    for attempt in itertools.count():
        _kill_all(path, home)
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # A killed process leaves only when its memory is torn down; nothing tells us when.
            if time.monotonic() > deadline:
                raise
            time.sleep(min(0.001 * 2**attempt, 0.1))


def _members(path: Path) -> list[int]:
    return [int(pid) for pid in (files.read(path / "cgroup.procs") or "").split()]


def _kill_all(path: Path, home: Path) -> None:
    for pid in _members(path):
        if pid == os.getpid():
            (home / "cgroup.procs").write_text("0")
        elif pid > 0:
            _kill(pid, path)


def _kill(pid: int, path: Path) -> None:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        # The pid may have died and gone to a stranger between the listing and the handle. A process that is
        # listed while we hold its handle is the one that we hold.
        if pid in _members(path):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
