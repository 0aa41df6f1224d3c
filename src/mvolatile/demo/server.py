"""The child process: serves the stream, or its part of it, with one contender, checks every tile, and reports to its
parent.

Standard output carries one JSON object a line, a `Tally`, before the first request, every `REPORT_EVERY`
requests and at the end.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from mvolatile.demo.contenders import Keeper, keeper
from mvolatile.demo.imagery import TileStore
from mvolatile.kernel import files

__all__ = ["REPORT_EVERY", "Tally", "Task", "anonymous_bytes", "serve"]

REPORT_EVERY = 64


@dataclass(frozen=True, slots=True)
class Task:
    """What a server is told, as JSON in its one argument. `directory` holds the tile store and `stream.bin`.

    Each of `workers` serves every so manieth request. `name` is that of what they share.

    With `limit` (bytes) nothing but the servers themselves keeps to it: each counts its own memory, and its part of
    that of the processes `beside` (the neighbour, a keeper), and sheds what is more than its part of the limit.
    """

    contender: str
    directory: str
    cap: int | None
    limit: int | None = None
    beside: list[int] = field(default_factory=list)
    worker: int = 0
    workers: int = 1
    name: str = "tiles"


@dataclass(slots=True)
class Tally:
    """What was served so far, in `seconds` from the start.

    `over` says that the limit could not be kept to, `ended` that this is the last report.
    """

    requests: int = 0
    hit: int = 0
    built: int = 0
    rebuilt: int = 0
    wrong: int = 0
    seconds: float = 0.0
    over: bool = False
    ended: bool = False


def anonymous_bytes(pid: int | None = None) -> int:
    """Private memory of a process (this one by default) in RAM: its tiles, and what Python needs."""
    status = files.read_table(f"/proc/{'self' if pid is None else pid}/status")
    return status.get("RssAnon", 0)


def serve(task: Task, out: IO[str], gate: IO[str]) -> None:
    """Serve the whole stream, report to `out`, and keep the tiles until `gate` is closed from the other side."""
    directory = Path(task.directory)
    keys = array("I", (directory / "stream.bin").read_bytes())[task.worker :: task.workers]
    with TileStore(directory) as store:
        kept = keeper(task.contender, task.cap, task.name)
        tally = Tally()
        began = time.monotonic()
        for key in keys:
            if tally.requests % REPORT_EVERY == 0:
                tally.over = task.limit is not None and not _keep_to(task, task.limit, kept)
                if tally.over:
                    break
                _report(tally, began, out)
            checksum, source = kept.serve(key, store.decode)
            tally.requests += 1
            setattr(tally, source, getattr(tally, source) + 1)
            tally.wrong += checksum != store.checksum(key)
        tally.ended = True
        _report(tally, began, out)
        # Who exits at once is gone, with its memory, before the parent has looked at it a last time.
        gate.read()


def _report(tally: Tally, began: float, out: IO[str]) -> None:
    tally.seconds = time.monotonic() - began
    out.write(json.dumps(asdict(tally)) + "\n")
    out.flush()


def _keep_to(task: Task, limit: int, kept: Keeper) -> bool:
    """Shed what is over the limit; False if that was not enough."""
    excess = anonymous_bytes() + (sum(map(anonymous_bytes, task.beside)) - limit) // task.workers
    return excess <= 0 or kept.shed(excess) >= excess


def _prefer_as_victim() -> None:
    """Where the kernel must kill somebody in the cgroup, it shall be the cache and not the neighbour."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def main() -> None:
    """Entry of the child process."""
    _prefer_as_victim()
    # A parent that is gone wants no more reports.
    with contextlib.suppress(BrokenPipeError):
        serve(Task(**json.loads(sys.argv[1])), sys.stdout, sys.stdin)


if __name__ == "__main__":
    main()
