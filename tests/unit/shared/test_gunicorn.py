"""A real gunicorn whose workers are killed, reloaded, recycled and started anew: what one made is there for all."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from mvolatile import SharedCache
from support.asking import ask
from support.gunicorns import WORKERS, Server, gunicorn
from support.keepers import kill_keeper, until

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
TILES, APP = 30, "served:application"


def serve_all(server: Server) -> set[int]:
    """Ask for every tile, and for who answers."""
    for first in range(0, TILES, 5):
        numbers = range(first, min(first + 5, TILES))
        assert ask(server.listening, *(f"/{number}" for number in numbers)) == [
            b"%d" % number * 4096 for number in numbers
        ]
    return set(map(int, ask(server.listening, *["/"] * 8)))


@pytest.mark.slow
def test_a_cache_outlives_its_workers(runtime: Path, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(APPLICATION)
    with SharedCache[object, object]("tiles") as cache:

        def made_once() -> None:
            """But for what the kernel took meanwhile."""
            assert TILES <= server.made() <= TILES + cache.keeper_info()["purged"]

        with gunicorn(tmp_path, APP) as server:
            serve_all(server)
            made_once()

            for pid in (first := server.workers()):
                os.kill(pid, signal.SIGKILL)
            until(lambda: server.replaced(first))
            assert serve_all(server) <= server.workers()
            made_once()

            before = server.workers()
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.replaced(before))
            serve_all(server)
            made_once()

            for pid in server.workers():  # one after the other, while the others serve
                os.kill(pid, signal.SIGTERM)
                until(partial(server.replaced, {pid}))
                serve_all(server)
            made_once()

        with gunicorn(tmp_path, APP, "--preload", "--max-requests", "10", PRELOADED="1") as server:
            answered: set[int] = set()
            while len(answered) < 2 * WORKERS:
                answered |= serve_all(server)
            made_once()

            kill_keeper(cache)
            serve_all(server)
            assert server.made() > TILES
            made = server.made()
            serve_all(server)
            assert server.made() <= made + cache.keeper_info()["purged"]
