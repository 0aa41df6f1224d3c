"""`_core/protocol/linger.c` and `marker.c`: what was just used stays held, until the marker, another thread, marks it.

How long that is nobody knows here: the marker may come at any moment.
"""

from __future__ import annotations

from ..steps import Steps
from .atomics import atomic_load, range_enter, range_leave
from .hold import mark
from .machine import Task
from .programs import CLOSED, close, read_held, settled_hold
from .properties import must, pin_reads_whole
from .stores import range_open_stored


def range_unpin_lingering(t: Task, r: int) -> Steps[None]:
    """`range_unpin()` of a range of which all is there: the last pin leaves it as it is, on the list."""
    g = yield from range_enter(t, r)
    g = g._replace(pins=g.pins - 1)
    if not g.pins and g.lost:
        g, _ = yield from mark(t, r, g)
    elif not g.pins:
        g = g._replace(lingers=True)
    yield from range_leave(t, r, g)


def marker(t: Task, r: int, rounds: int = 1) -> Steps[None]:
    """`mark_unused()`: the range was found on the list; whose it is now shows under its lock."""
    for _ in range(rounds):
        found = (yield atomic_load(t, r, "guarded")).lingers
        if not found:
            continue
        g = yield from range_enter(t, r)
        if (g.lingers or t.broken.linger_stale) and (not g.pins or t.broken.linger_under_pin):
            g, _ = yield from mark(t, r, g)
        elif g.pins:
            g = g._replace(lingers=False)
        yield from range_leave(t, r, g)


def use_again(t: Task, r: int = 0, times: int = 2) -> Steps[str]:
    """Hits of a hot value: a hold each, and what was read is whole."""
    found = ""
    for _ in range(times):
        found = yield from settled_hold(t, False, None, r)
        if found != "whole":
            return found
        values = yield from read_held(t)
        must("pin_reads_whole", pin_reads_whole(values))
        del values
        yield from range_unpin_lingering(t, r)
    return found


def use_close_and_store(t: Task, r: int, version: int) -> Steps[str]:
    """A hot value leaves while it lingers; the next one is stored in its memory, which is held, and read."""
    found = yield from use_again(t, times=1)
    if found != "whole":
        return found
    found = yield from close(t, keep=True)
    if found != CLOSED:
        return found
    yield from range_open_stored(t, r, version, kept=True, held=True)
    found = yield from settled_hold(t, False, None, r)
    if found == "whole":
        values = yield from read_held(t)
        must("pin_reads_whole", pin_reads_whole((*values, version)))
    return found
