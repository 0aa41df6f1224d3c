"""Who speaks to a keeper and is none of its clients."""

from __future__ import annotations

import os
import socket
from typing import Any

from mvolatile.shared.place import Place
from mvolatile.shared.wire import PROTOCOL, Op, Reply, Request, Status

__all__ = ["Stranger"]


class Stranger:
    """Speaks to the keeper with whatever bytes."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(100)
        self.socket.connect(str(Place("test").path("sock")))

    def hello(self) -> Stranger:
        assert self.ask(Request(Op.HELLO, length=PROTOCOL)).status == Status.OK
        return self

    def send(self, data: bytes, *descriptors: int) -> bool:
        try:
            socket.send_fds(self.socket, [data], descriptors)
            return True
        except OSError:
            return False

    def hear(self) -> Reply | None:
        """The answer; None: we were dropped."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 18, 4)
        except ConnectionError:
            return None
        for one in descriptors:
            os.close(one)
        return Reply.unpacked(data) if data else None

    def ask(self, request: Request, *descriptors: int) -> Any:
        return self.hear() if self.send(request.packed(), *descriptors) else None

    def close(self) -> None:
        self.socket.close()
