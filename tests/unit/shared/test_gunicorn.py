"""A real gunicorn whose workers are killed, reloaded, recycled and started anew: what one made is there for all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mvolatile import SharedCache
from support.asking import ask
from support.keepers import kill_keeper, until
from support.processes import LONGEST

APPLICATION = """
import os

import mvolatile as mv

made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)


@mv.volatile_cache(shared="tiles")
def tile(number):
    os.write(made, b"%d\\n" % number)
    return b"%d" % number * 4096


def application(environ, start_response):
    what = environ["PATH_INFO"][1:]
    body = tile(int(what)) if what else str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if "PRELOADED" in os.environ:
    tile(0)
"""
TILES, WORKERS = 30, 4


class Server:
    """A gunicorn, its workers, and what they made."""

    def __init__(self, directory: Path, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.made_by_all = directory / "made"
        self.listening = directory / "socket"
        until(self.workers)
        until(self.answers)

    def answers(self) -> bool:
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

    def serve_all(self) -> set[int]:
        """Ask for every tile, and for who answers."""
        for first in range(0, TILES, 5):
            numbers = range(first, min(first + 5, TILES))
            assert ask(self.listening, *(f"/{number}" for number in numbers)) == [
                b"%d" % number * 4096 for number in numbers
            ]
        return set(map(int, ask(self.listening, *["/"] * 8)))

    def made(self) -> int:
        """Tiles, by whichever worker, each as often as it was made."""
        return len(self.made_by_all.read_text().split())


@contextmanager
def gunicorn(directory: Path, *options: str, **environment: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--log-level", "error"),
            *("--bind", f"unix:{directory / 'socket'}", *options, "served:application"),
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


def test_a_cache_outlives_its_workers(runtime: Path, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(APPLICATION)
    (tmp_path / "made").touch()
    with SharedCache[object, object]("tiles") as cache:

        def made_once() -> None:
            """But for what the kernel took meanwhile."""
            assert TILES <= server.made() <= TILES + cache.keeper_info()["purged"]

        with gunicorn(tmp_path) as server:
            server.serve_all()
            made_once()

            for pid in (first := server.workers()):
                os.kill(pid, signal.SIGKILL)
            until(lambda: server.replaced(first))
            assert server.serve_all() <= server.workers()
            made_once()

            before = server.workers()
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.replaced(before))
            server.serve_all()
            made_once()

        with gunicorn(tmp_path, "--preload", "--max-requests", "10", PRELOADED="1") as server:
            answered: set[int] = set()
            while len(answered) < 2 * WORKERS:
                answered |= server.serve_all()
            made_once()

            kill_keeper(cache)
            server.serve_all()
            assert server.made() > TILES
            made = server.made()
            server.serve_all()
            assert server.made() <= made + cache.keeper_info()["purged"]
