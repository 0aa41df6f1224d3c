"""Figures of this process, left in a file for other processes of this user: ``mvolatile top`` reads them.

The file lies in the directory where keepers are met, which nobody else may enter. It is replaced as a whole, so a
reader never sees a half. Who dies without a word leaves it; a reader knows by the process's time of start, which a
later process of that number has not, and removes it.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..kernel import files
from ..shared import runtime_directory
from .snapshot import figures
from .ticker import Ticker

__all__ = ["publish", "published"]

SUFFIX = ".figures"

_ticker = Ticker()


def publish() -> None:
    """Write this process's `figures()` to a file every second, and remove it at the end. Again: nothing more.

    ``MVOLATILE_METRICS=1`` does so for every program that uses a cache. Costs a thread, and what a snapshot costs.
    A forked child goes on with a file of its own. Nothing is raised where the disk is full: the file is older then.

    Errors: `PermissionError` if the runtime directory is not this user's alone.
    """
    _write()
    _remove_at_end()
    _ticker.add(_write)


@cache
def _remove_at_end() -> None:
    """Registered before the ticker's own, which writes once more: the last comes first."""
    atexit.register(_remove)


def published() -> list[dict[str, Any]]:
    """What each process of this user that publishes has told last: ``pid``, ``time`` (of `time.time`), ``figures``."""
    found = []
    for path in sorted(runtime_directory().glob(f"*{SUFFIX}")):
        with suppress(OSError, ValueError):
            told = json.loads(path.read_text())
            if told["start"] == _start_of(told["pid"]):
                found.append(told)
            else:
                path.unlink()
    return found


def _write() -> None:
    pid, path = os.getpid(), _path()
    told = {
        "pid": pid,
        "start": _start_of(pid),
        "time": time.time(),
        "figures": [one.as_dict() for one in figures()],
    }
    beside = path.with_suffix(".new")
    with suppress(OSError):
        beside.write_text(json.dumps(told))
        beside.replace(path)


def _remove() -> None:
    with suppress(OSError):
        _path().unlink()


def _path() -> Path:
    return runtime_directory() / f"{os.getpid()}{SUFFIX}"


def _start_of(pid: int) -> str | None:
    """In ticks since boot: field 22 of its stat, counted behind the name, which may have spaces and parentheses."""
    text = files.read(Path(f"/proc/{pid}/stat"))
    return None if text is None else text.rpartition(")")[2].split()[19]
