"""What do several workers cost a cache that is one process's own?

A real gunicorn serves one stream of requests for tiles, in a memory cgroup of its own: by one process with threads,
by four processes, by four that are recycled, and by four that were forked with a warm cache (`--preload`).

python benchmarks/workers.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import MIB, Goal, finish
from web_load import ask, replay, wait_for

from mvolatile.kernel.cgroup import ChildCgroup

QUESTION = "What do several workers cost a cache that is one process's own?"
REQUESTS, TILES, WORKERS, LIMIT = 16_000, 4_000, 4, 384 * MIB
APPLICATION = f"""
import os
import random

import mvolatile as mv

TILES = {TILES}
made = os.open(os.environ["MADE"], os.O_WRONLY | os.O_APPEND)


@mv.volatile_cache(name="tiles")
def tile(number):
    os.write(made, b".")  # a byte for each value made, by whichever process
    return random.Random(number).randbytes(40_000)


def application(environ, start_response):
    body = tile(int(environ["PATH_INFO"][1:]))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


for number in range(int(os.environ["WARM"])):
    tile(number)
"""
RECYCLED = ("--max-requests", "1000", "--max-requests-jitter", "100")
WAYS = (
    ("1 process, 4 threads", 0, ("--workers", "1", "--threads", "4")),
    (f"{WORKERS} processes", 0, ("--workers", str(WORKERS))),
    (f"{WORKERS} processes, recycled", 0, ("--workers", str(WORKERS), *RECYCLED)),
    (f"{WORKERS} processes, preloaded and warm", TILES // 2, ("--workers", str(WORKERS), "--preload")),
    (
        f"{WORKERS} processes, preloaded and warm, recycled",
        TILES // 2,
        ("--workers", str(WORKERS), "--preload", *RECYCLED),
    ),
)


def is_right(path: str, number: int) -> bool:
    return ask(path, f"/{number}") == random.Random(number).randbytes(40_000)


def serve(warm: int, options: tuple[str, ...]) -> dict[str, Any]:
    # What is popular has a low number, so that warming makes what will be asked for most.
    source = random.Random(1)
    weights = [1 / (rank + 8) ** 0.7 for rank in range(TILES)]
    numbers = source.choices(range(TILES), weights, k=REQUESTS)
    with tempfile.TemporaryDirectory() as scratch, ChildCgroup(LIMIT) as cgroup:
        Path(scratch, "served.py").write_text(APPLICATION)
        made, path = Path(scratch, "made"), str(Path(scratch, "socket"))
        made.touch()
        command = ["-m", "gunicorn", "--chdir", scratch, "--bind", f"unix:{path}", "--log-level", "error"]
        server = subprocess.Popen(
            cgroup.wrap([sys.executable, *command, *options, "served:application"]),
            env={**os.environ, "MADE": str(made), "WARM": str(warm), "XDG_RUNTIME_DIR": scratch},
        )
        try:
            wait_for(server, lambda: is_right(path, 0))
            wrong = replay(numbers, lambda number: is_right(path, number), WORKERS)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
        if wrong or cgroup.oom_kills():
            raise SystemExit(f"{len(wrong)} wrong tiles, {cgroup.oom_kills()} processes killed")
        return {"values made": made.stat().st_size, "of which before the fork": warm}


def main() -> int:
    rows: list[dict[str, Any]] = []
    for name, warm, options in WAYS:
        rows.append({"how": name, **serve(warm, options)})
        rows[-1]["beside one process"] = rows[-1]["values made"] / rows[0]["values made"]
    _, several, recycled, preloaded, preloaded_recycled = (float(row["values made"]) for row in rows)
    goals = [
        Goal("made by several, beside preloaded", several / preloaded, 1.0, True),
        Goal("made by recycled ones, beside preloaded", recycled / preloaded_recycled, 1.0, True),
    ]
    return finish(__file__, QUESTION, rows, goals, requests=REQUESTS, limit_mib=LIMIT // MIB, tiles=TILES)


if __name__ == "__main__":
    sys.exit(main())
