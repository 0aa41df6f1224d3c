"""600 tasks over 400 keys, one worker process at a time."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

where = Path(sys.argv[1])
os.environ["CELERY_SOCKET"] = path = str(where / "redis.sock")
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", path, "--save", ""], stdout=subprocess.DEVNULL, cwd=where
)
worker = None
try:
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.02)
    from integrations.recycled.celery_app import work

    options = ["-c", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with open(where / "log", "w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "integrations.recycled.celery_app", "worker", *options],
            stderr=log,
            stdout=log,
        )
    source = random.Random(1)
    keys = [source.randrange(400) for _ in range(600)]
    results = [work.delay(key) for key in keys]
    got = [result.get(timeout=200, interval=0.02) for result in results]
finally:
    for process in filter(None, (worker, server)):
        process.terminate()
        process.wait()
print(
    json.dumps(
        {
            "processes": len({pid for pid, _, _ in got}),
            "made": sum(made for _, made, _ in got),
            "held": got[-1][2],
            "keys": 400,
            "asked": 600,
        }
    )
)
