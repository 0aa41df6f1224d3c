"""200 requests of 10 values each to one worker of uWSGI, with reload-on-rss."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

where = Path(sys.argv[1])
beside = Path(sys.executable).with_name("uwsgi")
uwsgi = str(beside) if beside.exists() else "uwsgi"
path = str(where / "http.sock")
options = ["--http-socket", path, "--master", "--die-on-term", "--reload-on-rss", "200"]
options += ["--min-worker-lifetime", "0"]  # else a minute, before which nothing is reloaded
module = ["--module", "integrations.recycled.uwsgi_app", "--virtualenv", sys.prefix, "--enable-threads"]


def ask() -> tuple[int, int, int]:
    """One request; again while a worker is being replaced."""
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            pid, made, held = json.loads(answer.split(b"\r\n\r\n", 1)[1])
            return pid, made, held
        except (OSError, IndexError, ValueError):
            assert server.poll() is None
            time.sleep(0.02)


with open(where / "log", "w") as log:
    server = subprocess.Popen([uwsgi, *options, *module], stdout=log, stderr=log)
try:
    got = [ask() for _ in range(200)]
finally:
    server.terminate()
    server.wait()
told = {
    "processes": len({pid for pid, _, _ in got}),
    "made": sum(made for _, made, _ in got),
    "held": got[-1][2],
    "keys": 600,
    "asked": 2000,
}
print(json.dumps(told))
