"""Servers that tests start and stop: Redis, memcached. Each with a reason where it is not there."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["RedisServer", "free_port", "redis_server"]


def free_port() -> int:
    """One of 127.0.0.1 that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RedisServer:
    """A redis-server without a file, on a port and a unix socket; it can be started again."""

    def __init__(self, directory: Path, program: str) -> None:
        self.program, self.directory = program, directory
        self.port, self.path = free_port(), str(directory / "redis")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        self.process = subprocess.Popen(
            [
                *(self.program, "--port", str(self.port), "--unixsocket", self.path, "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
            ],
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + 60
        while True:
            assert self.process.poll() is None
            try:
                with socket.socket(socket.AF_UNIX) as asking:
                    asking.connect(self.path)
                    asking.sendall(b"PING\r\n")
                    if asking.recv(7) == b"+PONG\r\n":
                        return
            except OSError:
                assert time.monotonic() < end, "redis-server did not come up"
            time.sleep(0.01)

    def stop(self) -> None:
        """As if it had died."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, gone when it ends."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server here")
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        server = RedisServer(Path(directory), program)
        try:
            yield server
        finally:
            server.stop()
