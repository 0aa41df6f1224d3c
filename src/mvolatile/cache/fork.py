"""After a fork: locks anew, since their owners may not be there, and what other threads were doing forgotten.

Python's hooks are not all: uWSGI, and any library, may fork in C, and no hook runs then. The core counts those forks,
too. So whatever takes a lock or waits for a thread calls `catch_up` first, which compares two numbers.

The bad schedules: a thread of the parent holds a lock while another forks in C; the child would wait for it for ever.
Two threads of the child come at once, and one uses the locks that the other is about to replace: so one of them
starts over, and the other waits. A finalizer comes while its own thread starts over: it goes on with what there is.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from .._core import forks, forks_by_python

__all__ = ["at_start_over", "catch_up", "follow"]


class Forks(Protocol):
    """What is told of a fork."""

    def after_fork(self) -> None: ...


_followed: weakref.WeakValueDictionary[int, Forks] = weakref.WeakValueDictionary()
_first: list[Callable[[], None]] = []
_known = forks()
_starting: int | None = None
"""The fork that the owner of the turn is at: it meets itself no second time."""
_turns: dict[int, Any] = {}
"""A lock for each count of forks: no thread of a parent can hold what its child makes. `setdefault` is atomic."""


def follow(cache: Forks) -> None:
    """Tell `cache` in every forked child, as long as it lives."""
    _followed[id(cache)] = cache


def at_start_over(function: Callable[[], None]) -> None:
    """Call `function` in every forked child, before any cache is told."""
    _first.append(function)


def catch_up() -> None:
    """Start over if this is a child that has not done so."""
    if forks() != _known:
        _start_over()


def _start_over() -> None:
    global _known, _starting
    now = forks()
    with _turns.setdefault(now, threading.RLock()):
        if now in (_known, _starting):
            return
        _starting = now
        try:
            for function in _first:
                function()
            for cache in list(_followed.values()):
                cache.after_fork()
            _known = now
        finally:  # an interrupt: the next comer starts over again
            _starting = None
        for past in [count for count in _turns if count != now]:
            del _turns[past]


_begins, _is_over = partial(forks_by_python, True), partial(forks_by_python, False)
os.register_at_fork(before=_begins, after_in_parent=_is_over, after_in_child=_is_over)
os.register_at_fork(after_in_child=catch_up)
