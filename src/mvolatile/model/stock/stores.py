"""`_core/protocol/store.c`, and as much of `spare.c` as keeps one memory: values that overwrite all of a range."""

from __future__ import annotations

from ..steps import Steps
from .atomics import atomic_fetch_add, atomic_store, gate_enter, gate_leave, global_store, wait_while
from .hold import make_room_for_huge_pages, mark
from .kernel import TRAP, load, os_copy, os_reserve, os_unwatch, store
from .loss import loss_find_missing, loss_fold_notes
from .machine import USERFAULTFD, Guarded, Task
from .peek import range_repair
from .properties import made_good, must


def look_over(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """`look_over()`: what is missing of memory that was kept."""
    g = g._replace(marked=True, watched=True, data=t.m.all_pages)
    g, missing = yield from loss_find_missing(t, r, g, t.m.all_pages, zeroed=False)
    if missing and t.m.config.large:
        yield os_unwatch(t)
        g = yield from make_room_for_huge_pages(t, g._replace(watched=False))
    return g


def touch_own(t: Task, page: int, value: int | None) -> Steps[None]:
    """A store, or with None a load, of a range that only this thread knows; the trap repairs."""
    while (yield (load(t, page) if value is None else store(t, page, value))) == TRAP:
        repaired = yield from range_repair(t, page)
        must("no_stray_sigbus", None if repaired else "a store's touch kills")
        del repaired


def overwrite(t: Task, r: int, g: Guarded, value: int) -> Steps[None]:
    """`overwrite()`, with `fill_missing()`."""
    peeks = 0 if t.broken.store_unrepaired else 1
    yield atomic_fetch_add(t, r, "peeks", peeks)
    for page in range(t.m.config.pages):
        missing = g.watched and g.lost >> page & 1
        if not missing or (yield from os_copy(t, page, value)):
            yield from touch_own(t, page, value)
        yield made_good(t, 1 << page)
        del missing
    yield atomic_fetch_add(t, r, "peeks", -peeks)
    yield wait_while(t, r, "traps")


def make_young(t: Task, r: int) -> Steps[None]:
    """`make_young()`: what goes meanwhile is noted, and a loss like any other."""
    yield atomic_fetch_add(t, r, "peeks", 1)
    for page in range(t.m.config.pages):
        yield from touch_own(t, page, None)
    yield atomic_fetch_add(t, r, "peeks", -1)


def begin_anew(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """All is there, and nothing lost."""
    if not t.broken.store_keeps_notes:
        g = yield from loss_fold_notes(t, r, g)
    if not t.broken.store_keeps_losses:
        g = g._replace(lost=0)
        yield atomic_store(t, r, "lossy", False)
    return g._replace(data=t.m.all_pages)


def store_parts(t: Task, r: int, g: Guarded, value: int, kept: bool, held: bool) -> Steps[Guarded]:
    """`store_parts()`. It is marked at the end; that it may linger until the marker comes, is `use_again()`."""
    if held:
        g = g._replace(watched=True, data=t.m.all_pages)
    elif kept:
        g = yield from look_over(t, r, g)
    elif g.watched:
        g = g._replace(lost=t.m.all_pages)
    yield from overwrite(t, r, g, value)
    late = t.broken.store_forgives_late
    if not late:
        g = yield from begin_anew(t, r, g)
    g, _ = yield from mark(t, r, g)
    if kept:
        yield from make_young(t, r)
    return (yield from begin_anew(t, r, g)) if late else g


def range_open_stored(t: Task, r: int, value: int, kept: bool, held: bool = False) -> Steps[None]:
    """`range_open_stored()` with `struct range` number `r`, which is spare; `kept`: in the memory that was; `held`: it
    lingered when it left."""
    for name, initial in (("writing", 0), ("lossy", False), ("notes", 0), ("noted", 0)):
        yield atomic_store(t, r, name, initial)
    g = Guarded(watched=not t.m.config.large and t.tier == USERFAULTFD)
    yield from gate_enter(t)
    if t.m.config.large and not kept:
        yield os_reserve(t)
    yield global_store(t, "owner", r)
    yield atomic_store(t, r, "live", True)
    g = yield from store_parts(t, r, g, value, kept, held)
    yield atomic_store(t, r, "guarded", g)
    yield from gate_leave(t)
