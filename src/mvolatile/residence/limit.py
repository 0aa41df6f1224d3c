"""The limit that is in force, and who looks at it: whoever takes more volatile memory, and a thread.

What was set is what holds: a number, a share, or none. Where nothing was set, it is what software that recycles this
process for its RSS leaves (`recyclers.py`), and without such no limit.

The core keeps the limit by itself, in the middle of each store. A thread is there because the limit moves: what the
program takes beside grows while no value is stored, a container's limit is changed, and a paused worker stores
nothing any more.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from contextlib import suppress

from .. import _core
from .._core import resident_limit
from ..errors import VolatilityWarning
from ..kernel.threads import start_thread, tell_once
from .others import Others
from .recyclers import Recycler, recyclers
from .sizes import Share, size_or_share

__all__ = ["before_more", "look", "resident_limit", "room", "set_resident_limit", "told_limit"]

STRIDE, FAR = 1 << 20, 4 << 20
"""So many more bytes are taken between two looks, at most; and where there is no limit, as far as is known."""
OFTEN, SELDOM = 0.05, 0.5
"""Seconds between two looks of the thread: where the limit moves with the process, and where it does not. Pollers look
each 100 ms or less often.
"""
HEADROOM = 64
"""Caches stay below the limit by such a part, so that it is they who choose what goes."""

VARIABLE = "MVOLATILE_RESIDENT_LIMIT"

_UNSET = "auto"
_chosen: int | Share | str | None = _UNSET
_asked_environment = False
_unseen = FAR
_told = False


class _Process:
    """What belongs to one process: a forked child begins anew. What its parent measured is not its own, and of locks
    and threads it has none.
    """

    def __init__(self) -> None:
        self.forks = _core.forks()
        self.others = Others()
        self.found: list[Recycler] = []
        self.lock = threading.RLock()
        self.looking = False
        self.thread: threading.Thread | None = None
        self.refused = False
        self.known: tuple[int, Share | None, int | None] = 0, None, None


_processes: dict[int, _Process] = {}
"""By forks. `setdefault` is atomic, and no thread of a parent can hold what its child makes."""


def _process() -> _Process:
    now = _core.forks()
    found = _processes.get(now)
    if found is None:
        found = _processes.setdefault(now, _Process())
        for past in [count for count in list(_processes) if count != now]:
            _processes.pop(past, None)
    return found


def set_resident_limit(limit: int | str | None) -> None:
    """Have volatile memory add no more than `limit` to this process's RSS, from now on.

    `limit`: bytes, or a text like ``"256MiB"``; a share like ``"80%"`` of the container's limit (of the machine's
    memory, where it has none), as that is at each moment; None for no limit; ``"auto"``, with which a process begins,
    for what software that is found in it and recycles it for its RSS leaves (Celery, loky, Dask, uWSGI, django-q).
    ``MVOLATILE_RESIDENT_LIMIT`` sets it from outside, ``none`` being None.

    All `VolatileMemory` counts, with that of caches and arrays; what was marked with `mvolatile()` is the program's
    own. The limit holds before the first byte of a store: caches give up what is worth least to them, and else the
    oldest goes, by the kernel's own reclaim. What is held (pinned, exported, in arrays that live) cannot go; if that
    is too much, a `VolatilityWarning` tells it once.

    Raises `ValueError` or `TypeError` for what is no such limit. Threads: from any. Fork: a child has the limit for
    itself, and memory that it shares with its parent counts in both, as in their RSS.

    >>> import mvolatile
    >>> mvolatile.set_resident_limit("256MiB")
    >>> mvolatile.memory_usage().limit
    268435456
    >>> mvolatile.set_resident_limit("auto")
    """
    global _chosen, _asked_environment
    chosen = _parsed(limit, "the limit")
    _asked_environment, _chosen = True, chosen
    look()


def _parsed(limit: int | str | None, what: str) -> int | Share | str | None:
    text = limit.strip().lower() if isinstance(limit, str) else None
    if limit is None or (text == "none" and what == VARIABLE):
        return None
    return _UNSET if text == _UNSET else size_or_share(limit, what)


def _wanted() -> int | Share | str | None:
    global _chosen, _asked_environment
    if not _asked_environment:
        if text := os.environ.get(VARIABLE):
            _chosen = _parsed(text, VARIABLE)
        _asked_environment = True
    return _chosen


def told_limit() -> tuple[str, list[Recycler]]:
    """What the limit follows from: ``"set"``, ``"found"`` or ``"none"``, and the recyclers of this process."""
    wanted, found = _wanted(), recyclers()
    if wanted == _UNSET:
        return ("found" if found else "none"), found
    return ("none" if wanted is None else "set"), found


def room(wanted: int) -> int | None:
    """Bytes that caches may take before others have to go; None for any. Less than nothing: so many are to go."""
    total, kept, limit = _core.residence()
    if limit is None:
        return None
    return limit - max(limit // HEADROOM, min(wanted, limit // 8)) - total + kept


# ---- looking


def before_more(nbytes: int) -> None:
    """So many bytes of volatile memory are about to be taken: look first whether the limit is another."""
    global _unseen
    _unseen += nbytes
    if (
        _unseen >= STRIDE and (_unseen >= FAR or resident_limit() is not None)
    ) or _core.forks() not in _processes:
        look()


def look() -> None:
    """Set the limit in the core as it is now, and keep it."""
    global _unseen
    this = _process()
    with this.lock:
        if this.looking:  # a finalizer, in our middle
            return
        this.looking = True
        try:
            _unseen = 0
            _look(this)
        finally:
            this.looking = False


def _look(this: _Process) -> None:
    wanted = _wanted()
    limit: int | None
    if wanted == _UNSET:
        this.found = recyclers()
        limit = None
        if this.found:
            this.others.look()
            limit = min(map(this.others.left_by, this.found))
    elif isinstance(wanted, Share):
        limit = _of_container(this, wanted)
    else:
        assert not isinstance(wanted, str)
        limit = wanted
    if limit is None and resident_limit() is None:
        return
    _core.limit_residence(limit)
    if limit is not None:
        _tell_held(limit)
        _watch(this)


def _of_container(this: _Process, share: Share) -> int | None:
    """Asked for at most each tenth of a second: it is several small files."""
    now = time.monotonic_ns() // 100_000_000
    if this.known[:2] != (now, share):
        this.known = now, share, share.nbytes()
    return this.known[2]


def _tell_held(limit: int) -> None:
    global _told
    total, _, _ = _core.residence()
    if total <= limit or _told or (held := _core.held_bytes()) <= limit:
        return
    _told = True
    with suppress(VolatilityWarning):  # nor does a store fail for it where warnings are errors
        warnings.warn(
            f"{held} bytes of volatile memory are held by pins, views or arrays, or are locked: they cannot be given "
            f"back, and the limit on what adds to RSS is {limit}",
            VolatilityWarning,
            stacklevel=2,
        )


# ---- the thread


def _watch(this: _Process) -> None:
    if this.thread is not None or this.refused:
        return
    thread = this.thread = threading.Thread(
        target=_run, args=(this,), name="mvolatile-residence", daemon=True
    )
    try:
        start_thread(thread)
    except (RuntimeError, MemoryError) as error:
        this.thread, this.refused = None, True
        tell_once("what the program itself takes is looked at only when something is stored", error)


def _run(this: _Process) -> None:
    while _core.forks() == this.forks and resident_limit() is not None:
        time.sleep(OFTEN if _wanted() == _UNSET else SELDOM)
        with suppress(Exception):  # a look is made again; what the interpreter's end takes away ends us
            look()
    this.thread = None
