"""A real gunicorn on a unix socket: its workers, and what they made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .asking import ask
from .keepers import until
from .processes import LONGEST

__all__ = ["WORKERS", "Server", "gunicorn"]

WORKERS = 4


class Server:
    """A gunicorn, its workers, and a file in which they say what they made, a word a value."""

    def __init__(self, directory: Path, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.made_by_all = directory / "made"
        self.listening = directory / "socket"
        until(self.workers)
        until(self.answers)

    def answers(self) -> bool:
        """Whether it is up."""
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        try:
            return bool(ask(self.listening, "/"))
        except OSError:
            return False

    def workers(self) -> set[int]:
        """Empty unless all are there."""
        pid = self.process.pid
        children = set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return children if len(children) == WORKERS else set()

    def replaced(self, before: set[int]) -> bool:
        """Whether none of those is there any more, and as many others are."""
        now = self.workers()
        return bool(now) and not now & before

    def made(self) -> int:
        """Values, by whichever worker, each as often as it was made."""
        return len(self.made_by_all.read_text().split())


@contextmanager
def gunicorn(directory: Path, application: str, *options: str, **environment: str) -> Iterator[Server]:
    """Serves `application` of a module in `directory`; ends well, or the test fails."""
    (directory / "made").touch()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--log-level", "error"),
            *("--bind", f"unix:{directory / 'socket'}", *options, application),
        ],
        cwd=directory,
        env={
            **os.environ,
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": str(directory),
            "MADE": str(directory / "made"),
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(directory, process)
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said
