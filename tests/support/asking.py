"""Asking a web server by HTTP over a unix socket, so that no port has to be found."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from .processes import LONGEST

__all__ = ["ask"]


class Connection(http.client.HTTPConnection):
    """To the socket at a path."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LONGEST)
        self.sock.connect(self.host)


def ask(path: Path, *what: str) -> list[bytes]:
    """All at once: a worker that reads one request accepts no other, so several workers answer."""
    connections = [Connection(str(path)) for _ in what]
    try:
        for connection in connections:
            connection.connect()
        for connection, one in zip(connections, what, strict=True):
            connection.request("GET", one)
        bodies = []
        for connection in connections:
            answer = connection.getresponse()
            assert answer.status == 200
            bodies.append(answer.read())
            connection.close()  # else its worker waits for that, for seconds
        return bodies
    finally:
        for connection in connections:
            connection.close()
