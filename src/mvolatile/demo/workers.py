"""The servers of one contender: one process, or several that share the stream, and the keeper of what they share."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mvolatile.demo.contenders import SHARED
from mvolatile.demo.server import Tally, Task, anonymous_bytes
from mvolatile.kernel.cgroup import ChildCgroup

__all__ = ["Workers", "started"]


@contextlib.contextmanager
def started(
    command: list[str], cgroup: ChildCgroup | None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, killed on leaving. In a session of its own, so that Ctrl-C reaches us alone."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process: subprocess.Popen[Any] = subprocess.Popen(
        cgroup.wrap(command) if cgroup else command, start_new_session=True, **{**pipes, **options}
    )
    try:
        yield process
    finally:
        process.kill()
        # A neighbour that died first leaves a last number in the pipe's buffer, which closing would write.
        with contextlib.suppress(BrokenPipeError):
            process.__exit__(None, None, None)


class Workers:
    """Of one run, each in `cgroup`; they begin when `tallies` is asked. A context manager."""

    def __init__(self, task: Task, cgroup: ChildCgroup | None) -> None:
        self._task = task
        self._cgroup = cgroup
        self._stack = contextlib.ExitStack()
        self._servers: list[subprocess.Popen[bytes]] = []
        self._keepers: list[int] = []

    def __enter__(self) -> Workers:
        with contextlib.ExitStack() as stack:
            environment = {**os.environ, "MVOLATILE_RUNTIME_DIR": str(Path(self._task.directory, "keepers"))}
            if self._task.contender == SHARED:
                command = [sys.executable, "-m", "mvolatile", "keep", self._task.name, "--linger", "10"]
                keeper = stack.enter_context(started(command, self._cgroup, env=environment))
                self._keepers.append(keeper.pid)
            beside = [*self._task.beside, *self._keepers]
            for worker in range(self._task.workers):
                task = replace(self._task, worker=worker, beside=beside)
                command = [sys.executable, "-m", "mvolatile.demo.server", json.dumps(asdict(task))]
                pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
                server = stack.enter_context(started(command, self._cgroup, env=environment, **pipes))
                self._servers.append(server)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def cache_bytes(self) -> int:
        """Private memory of all servers and of the keeper, in RAM. 0: a server has been killed."""
        each = [anonymous_bytes(server.pid) for server in self._servers]
        return sum(each) + sum(map(anonymous_bytes, self._keepers)) if all(each) else 0

    def tallies(self) -> Iterator[Tally]:
        """What all have served together, each time that one of them reports, until all have ended or one has without
        a last report. A kill can cut the last line short.
        """
        latest = [Tally() for _ in self._servers]
        rest = [b""] * len(latest)
        with selectors.DefaultSelector() as selector:
            for number, server in enumerate(self._servers):
                assert server.stdout is not None
                selector.register(server.stdout.fileno(), selectors.EVENT_READ, number)
            while selector.get_map():
                for key, _ in selector.select():
                    # Not by a buffered reader: what that has read ahead no selector tells of.
                    said = os.read(key.fd, 1 << 16)
                    *lines, rest[key.data] = (rest[key.data] + said).split(b"\n")
                    for line in lines:
                        latest[key.data] = Tally(**json.loads(line))
                        yield _together(latest)
                    if latest[key.data].ended:
                        selector.unregister(key.fd)
                    elif not said:
                        return

    def end(self) -> tuple[int, str]:
        """Let them go: the status of the first that failed, or 0; and what they said."""
        statuses, said = [], []
        for server in self._servers:
            assert server.stdin is not None
            assert server.stderr is not None
            server.stdin.close()
        for server in self._servers:
            said.append(server.stderr.read().decode(errors="replace").strip())  # type: ignore[union-attr]
            statuses.append(server.wait())
        return next(filter(None, statuses), 0), "\n".join(filter(None, dict.fromkeys(said)))


def _together(tallies: list[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        for name in ("requests", "hit", "built", "rebuilt", "wrong"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
    total.seconds = max(tally.seconds for tally in tallies)
    total.over = any(tally.over for tally in tallies)
    total.ended = all(tally.ended for tally in tallies)
    return total
