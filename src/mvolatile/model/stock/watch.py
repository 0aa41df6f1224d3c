"""`_core/protocol/watch.c`, as far as a watch ends that no fork has ended: everything goes on in a lower tier."""

from __future__ import annotations

from functools import cache

from ..steps import Op, Steps, put
from .atomics import atomic_fetch_add, atomic_store, global_load, global_store, wait_while
from .loss import loss_find_missing
from .machine import Task, World


@cache
def _is_open(t: Task) -> Op:
    """`os_watch_is_open()`: the descriptor and the watch end in one step here."""
    cell = t.cell("registered")

    def perform(world: World) -> tuple[World, bool]:
        return world, world[cell]

    return Op("is the descriptor ours", perform, reads=(cell,))


@cache
def _guarded(t: Task, r: int) -> Op:
    cell = t.cell(r, "guarded")
    return Op("look at the range", lambda world: (world, world[cell]), reads=(cell,))


@cache
def _shut(t: Task) -> Op:
    cell = t.cell("gate_shut")
    return Op(
        "shut the gate",
        lambda world: (put(world, cell, True), None),
        writes=(cell,),
        ready=lambda world: not world[cell],
    )


def range_shut_out_traps(t: Task) -> Steps[None]:
    """`range_shut_out_traps()`."""
    if t.broken.fork_lets_traps_in:
        return
    yield global_store(t, "trap_gate", t.name)
    for r in range(t.m.config.ranges):
        yield wait_while(t, r, "traps")


def watch_check(t: Task) -> Steps[None]:
    """`watch_check()`, `watch_renew()` and `watch_again()`, where the descriptor cannot be had again."""
    if (yield _is_open(t)) or (yield global_load(t, "fallen")):
        return
    yield _shut(t)
    yield wait_while(t, "gate")
    yield from range_shut_out_traps(t)
    if not (yield global_load(t, "fallen")):
        if t.broken.ended_taken_back:
            yield global_store(t, "watch_ended", False)
        yield global_store(t, "fallen", True)
        for r in range(t.m.config.ranges):
            g = yield _guarded(t, r)
            if g.marked:
                g, _ = yield from loss_find_missing(t, r, g, t.m.all_pages, zeroed=True)
            yield atomic_fetch_add(t, r, "changes", 1)
            yield atomic_store(t, r, "guarded", g._replace(watched=False))
            del g
        yield global_store(t, "watch_ended", False)
    yield global_store(t, "trap_gate", False)
    yield global_store(t, "gate_shut", False)
