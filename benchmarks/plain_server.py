"""The plainest way to one cache for several processes: a `VolatileCache` behind a unix socket.

`serve` has a thread for each client; `Client` is what a program has. There are no leases, so two may make one value.
For `shared_under_limit.py`.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

HEAD = struct.Struct("<iI")
"""Lengths of a value, -1 for none, and of the key before it. To ask for a value is to store none."""


class Client:
    """Of one thread."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._file = self._socket.makefile("rb")

    def get(self, key: str) -> bytes | None:
        """What is there, or None."""
        self._socket.sendall(HEAD.pack(-1, len(key)) + key.encode())
        length, _ = HEAD.unpack(self._file.read(HEAD.size))
        return None if length < 0 else self._file.read(length)

    def set(self, key: str, value: bytes) -> None:
        """Keep it."""
        self._socket.sendmsg([HEAD.pack(len(value), len(key)), key.encode()])
        self._socket.sendall(value)
        self._file.read(HEAD.size)


def serve(path: str) -> None:
    """Until it is killed."""
    import socketserver

    import mvolatile as mv

    cache: mv.VolatileCache[bytes, bytes] = mv.VolatileCache()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(HEAD.size):
                length, key_length = HEAD.unpack(head)
                key, value = self.rfile.read(key_length), None
                if length < 0:
                    value = cache.get(key)
                else:
                    cache[key] = self.rfile.read(length)
                self.request.sendall(HEAD.pack(-1 if value is None else len(value), 0))
                if value is not None:
                    self.request.sendall(value)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    Path(path).unlink(missing_ok=True)
    Server(path, Handler).serve_forever()
