"""`_core/protocol/watch.c`, and what `ranges.c` does for it: a fork."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..steps import Op, Steps, put, puts
from .atomics import atomic_fetch_add, atomic_store, global_load, global_store, wait_while
from .kernel import TRAP, load, os_populate_read, os_watch
from .kernel_fork import begin_fork, copy_library, copy_page, end_fork
from .loss import loss_find_missing
from .machine import USERFAULTFD, Guarded, Task, World
from .peek import range_repair
from .watch import range_shut_out_traps


def range_shut_gate(t: Task) -> Steps[None]:
    """`range_shut_gate()`: no operation is half done from here on. Readers that come later wait."""
    yield global_store(t, "gate_shut", True)
    if not t.broken.fork_without_gate:
        yield wait_while(t, "gate")


def before_fork(t: Task) -> Steps[None]:
    """`before_fork()`."""
    yield from range_shut_gate(t)
    yield from range_shut_out_traps(t)
    yield global_store(t, "shards", True)
    forks = yield global_load(t, "forks")
    yield global_store(t, "forks", forks + 1)


def let_go(t: Task) -> Steps[None]:
    """`let_go()`; in the child the gate is made anew."""
    yield global_store(t, "shards", False)
    yield global_store(t, "trap_gate", False)
    yield global_store(t, "gate_shut", False)


def fork(t: Task, inherited: Any, library_first: bool = True, interrupted: bool = False) -> Steps[None]:
    """`fork()` with its handlers, in the parent. The child begins with `inherited`.

    The library's memory may be copied before the range's pages or after them: that is the order of addresses.
    `interrupted`: by a signal, whose handler touches a page.
    """
    yield from before_fork(t)
    while interrupted and (yield load(t, 0)) == TRAP:
        yield from range_repair(t, 0)
    yield begin_fork(t)
    if library_first:
        yield copy_library(t)
    for page in range(t.m.config.pages):
        yield copy_page(t, page)
    if not library_first:
        yield copy_library(t)
    yield end_fork(t, inherited)
    yield from let_go(t)


@cache
def _fields(t: Task, r: int) -> Op:
    cell = t.cell(r, "guarded")
    return Op("look at the range", lambda world: (world, world[cell]), reads=(cell,))


def fill_never_written(t: Task, g: Guarded) -> Steps[None]:
    """`fill_never_written()`, and what is done instead where nothing can be lost."""
    never = t.m.all_pages & ~(g.data | g.lost) if g.marked else t.m.all_pages
    yield from os_populate_read(t, never)


def range_watch_again(t: Task) -> Steps[None]:
    """`range_watch_again()`, untouched: nothing of the child has run yet that could have filled a hole."""
    for r in range(t.m.config.ranges):
        g = yield _fields(t, r)
        if g.watched and not t.broken.never_written_unfilled:
            yield from fill_never_written(t, g)
        del g
    for r in range(t.m.config.ranges):
        g = yield _fields(t, r)
        if g.watched and t.tier == USERFAULTFD:
            yield os_watch(t)
        elif g.watched:
            if g.marked:
                g, _ = yield from loss_find_missing(t, r, g, t.m.all_pages, zeroed=True)
            if not t.broken.fallback_unannounced:
                yield atomic_fetch_add(t, r, "changes", 1)
            yield atomic_store(t, r, "guarded", g._replace(watched=False))
        del g


@cache
def _forget_other_threads(t: Task) -> Op:
    """`range_forget_other_threads()`, `peek_keep_only()`: the child's one thread keeps its own peeks alone."""
    listed = t.cell("open_peeks")
    ranges = range(t.m.config.ranges)
    peeks = [t.cell(r, "peeks") for r in ranges]
    zeroed = [t.cell(r, name) for r in ranges for name in ("users", "traps")]
    if t.broken.child_keeps_traps:
        zeroed = [t.cell(r, "users") for r in ranges]

    def perform(world: World) -> tuple[World, None]:
        mine = tuple(peek for peek in world[listed] if peek[0] == t.name)
        counts = [(cell, sum(peek[1] == r for peek in mine)) for r, cell in zip(ranges, peeks, strict=True)]
        return puts(world, (listed, mine), *counts, *((cell, 0) for cell in zeroed)), None

    return Op("forget the other threads", perform, writes=(listed, *peeks, *zeroed))


@cache
def _new_gate(t: Task) -> Op:
    cell = t.cell("gate")
    return Op("make_gate", lambda world: (put(world, cell, 0), None), writes=(cell,))


def in_child(t: Task) -> Steps[None]:
    """`in_child()`: watch again, forget the threads that are not here, open all locks."""
    if not t.broken.child_unwatched:
        yield from range_watch_again(t)
    yield _forget_other_threads(t)
    yield _new_gate(t)
    yield from let_go(t)
