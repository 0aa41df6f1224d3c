"""Figures of this process, left in a file for other processes of this user: ``mvolatile top`` reads them.

The file lies in the directory where keepers are met, which nobody else may enter. It is replaced as a whole, so a
reader never sees a half. Who dies without a word leaves it, and so does a program in whose place another comes by exec.
Whoever reads, or begins to write, knows those by when the process began, which a later one of that number has not, and
by where its stack is, which an exec moves; and removes the file.

Containers may share the directory, and in each a number is another process: who is of another pid namespace is
neither judged nor shown. What was not written for an hour there goes all the same.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..kernel import files
from ..kernel.lives import life_of, lives, namespace, stack_of
from ..kernel.threads import Process, process
from ..shared import runtime_directory
from .snapshot import figures
from .ticker import Ticker

__all__ = ["publish", "published"]

SUFFIX = ".figures"
NEW = ".new"
FORGOTTEN = 3600.0
"""Seconds."""

_ticker = Ticker()
_began: Process | None = None


def publish() -> None:
    """Write this process's `figures()` to a file every second, and remove it at the end. Again: nothing more.

    ``MVOLATILE_METRICS=1`` does so for every program that uses a cache. Costs a thread, and what a snapshot costs.
    A forked child goes on with a file of its own. Nothing is raised where the disk is full: the file is older then.

    Errors: `PermissionError` if the runtime directory is not this user's alone.
    """
    runtime_directory()
    _write()
    _remove_at_end()
    _ticker.add(_write)


@cache
def _remove_at_end() -> None:
    """Registered before the ticker's own, which writes once more: the last comes first."""
    atexit.register(_remove)


def published() -> list[dict[str, Any]]:
    """What each process of this user that publishes has told last: ``pid``, ``time`` (of `time.time`), ``figures``."""
    return list(_of_the_living())


def _of_the_living() -> Iterator[dict[str, Any]]:
    """What the others have left is removed."""
    here = namespace()
    for path in sorted(runtime_directory().glob(f"*{SUFFIX}*")):
        with suppress(OSError, ValueError, LookupError, TypeError):
            if path.suffix == NEW or not path.name.endswith(f".{here}{SUFFIX}"):
                if time.time() - path.stat().st_mtime > FORGOTTEN:
                    path.unlink()
                continue
            told = json.loads(files.read_or_raise(path))
            pid = told["pid"]
            if lives((pid, told["began"])) and _same(stack_of(pid), told["stack"]):
                yield told
            else:
                path.unlink()


def _same(one: int, other: int) -> bool:
    """0 is a stack of which nobody says where it is."""
    return one == other or 0 in (one, other)


def _write() -> None:
    """A child, which begins anew, removes what those before it left: nobody may be there who reads."""
    global _began
    pid, began = life_of(os.getpid())
    told = {
        "pid": pid,
        "began": began,
        "stack": stack_of(pid),
        "time": time.time(),
        "figures": [one.as_dict() for one in figures()],
    }
    with suppress(OSError):
        files.replace(_path(), json.dumps(told))
        if _began != (_began := process()):
            published()


def _remove() -> None:
    with suppress(OSError):
        _path().unlink()


def _path() -> Path:
    """Of this process, among those of all namespaces."""
    return runtime_directory() / f"{os.getpid()}.{namespace()}{SUFFIX}"
