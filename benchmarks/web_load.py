"""Requests over a unix socket to a server that a benchmark started, from several threads at once."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def ask(path: str, what: str) -> bytes:
    """The answer; nothing, where it is an error's."""
    connection = Connection(path)
    try:
        connection.request("GET", what)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else b""
    finally:
        connection.close()


def wait_for(server: subprocess.Popen[bytes], is_right: Callable[[], bool]) -> None:
    """Until it answers as it should."""
    end = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < end:
        try:
            if is_right():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit("the server did not come up")


def replay(numbers: Iterable[int], is_right: Callable[[int], bool], threads: int) -> list[int]:
    """Ask for each number, in turn, by whichever thread is free; those whose answers were wrong."""
    stream, lock = iter(numbers), threading.Lock()
    wrong: list[int] = []

    def work() -> None:
        while True:
            with lock:
                number = next(stream, None)
            if number is None:
                return
            if not is_right(number):
                wrong.append(number)

    working = [threading.Thread(target=work) for _ in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    return wrong
