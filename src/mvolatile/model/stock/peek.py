"""`_core/protocol/peek.c` and `repair.c`: peeks, and the trap's repair."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from ..steps import Op, Steps, puts
from .atomics import (
    atomic_fetch_add,
    atomic_load,
    global_load,
    note_bit,
    range_enter,
    range_leave,
    wait_while,
)
from .kernel import EEXIST, ENOENT, ENOMEM, EPERM, os_fill_unwatched, os_zero
from .loss import loss_fold_notes
from .machine import Task, World
from .properties import must, no_foreign_repair, report
from .watch import watch_check

WHOLE: Final = "whole"
LOST: Final = "lost"
OVERWRITTEN: Final = "overwritten"
UNSURE: Final = "unsure"


class Peek(NamedTuple):
    """`struct peek`, and `pinned` of the Python object above it."""

    range: int
    pages: int
    changes: int
    pinned: bool = False
    listed: bool = True


@cache
def _list_peek(t: Task, r: int, more: int, listed: bool) -> Op:
    """Under the shard's lock, which only a fork takes as well: one step. A copy is counted alone, without it."""
    peeks, names_of = t.cell(r, "peeks"), t.cell("open_peeks")
    forks = listed and t.m.config.child_tier is not None
    shards = t.cell("shards")

    def perform(world: World) -> tuple[World, None]:
        names = list(world[names_of])
        if more > 0:
            names.append((t.name, r))
        elif (t.name, r) in names:
            names.remove((t.name, r))
        else:
            return world, None
        return puts(world, (peeks, world[peeks] + more), (names_of, tuple(sorted(names)))), None

    def count(world: World) -> tuple[World, None]:
        return puts(world, (peeks, world[peeks] + more)), None

    label = "open_peek" if more > 0 else "close_peek"
    if not forks:
        return Op(label, count, writes=(peeks,))
    return Op(
        label, perform, reads=(shards,), writes=(peeks, names_of), ready=lambda world: not world[shards]
    )


def open_peek(t: Task, r: int, listed: bool = True) -> Op:
    """`open_peek()`; `open_copy()` where it is not listed."""
    return _list_peek(t, r, 1, listed)


def close_peek(t: Task, r: int, listed: bool = True) -> Op:
    """`close_peek()`."""
    return _list_peek(t, r, -1, listed)


def another_writes(t: Task, r: int) -> Steps[bool]:
    """`another_writes()`."""
    return bool((yield atomic_load(t, r, "writing"))) and (yield atomic_load(t, r, "writer")) != t.id


def _has_fallen(t: Task) -> Steps[bool]:
    """Whether `range_tier` is lower than when the caller looked; only where the watch can end."""
    return t.m.config.sandboxed and not t.broken.begun_unwatched and bool((yield global_load(t, "fallen")))


def range_peek_begin(t: Task, r: int, pages: int, listed: bool = True) -> Steps[tuple[str, Peek | None]]:
    """`range_peek_begin()`; `range_copy_begin()` where it is not listed."""
    yield open_peek(t, r, listed)
    changes = yield atomic_load(t, r, "changes")
    if (
        not (yield atomic_load(t, r, "writing"))
        and not (yield atomic_load(t, r, "lossy"))
        and not (yield atomic_load(t, r, "notes"))
        and not (yield from _has_fallen(t))
    ):
        return WHOLE, Peek(r, pages, changes, listed=listed)
    yield close_peek(t, r, listed)
    return UNSURE, None


def range_peek_begin_carefully(t: Task, r: int, pages: int) -> Steps[tuple[str, Peek | None]]:
    """`range_peek_begin_carefully()`."""
    g = yield from range_enter(t, r)
    g = yield from loss_fold_notes(t, r, g)
    changes = yield atomic_load(t, r, "changes")
    verdict, peek = WHOLE, None
    if g.lost & pages:
        verdict = LOST
        yield report(t, g.lost & pages, pages, held=False)
    elif (yield from another_writes(t, r)) or ((yield from _has_fallen(t)) and not g.pins):
        verdict = OVERWRITTEN
    else:
        yield open_peek(t, r)
        peek = Peek(r, pages, changes)
    del changes
    yield from range_leave(t, r, g)
    return verdict, peek


def range_peek_end(t: Task, peek: Peek) -> Steps[str]:
    """`range_peek_end()`: after UNSURE it is still open."""
    r = peek.range
    yield wait_while(t, r, "traps")
    looks = t.m.config.sandboxed and not (t.broken.ended_unseen or t.broken.ended_seen_last)
    ended = looks and (yield global_load(t, "watch_ended"))
    if t.broken.changes_before_notes:
        unsure = (yield atomic_load(t, r, "changes")) != peek.changes or (yield atomic_load(t, r, "notes"))
    else:
        unsure = (yield atomic_load(t, r, "notes")) or (yield atomic_load(t, r, "changes")) != peek.changes
    if ended or unsure or (t.broken.ended_seen_last and (yield global_load(t, "watch_ended"))):
        return UNSURE
    del ended, unsure
    yield close_peek(t, r, peek.listed)
    return WHOLE


def range_peek_end_carefully(t: Task, peek: Peek) -> Steps[str]:
    """`range_peek_end_carefully()`."""
    r = peek.range
    if t.m.config.sandboxed:
        yield from watch_check(t)
    g = yield from range_enter(t, r)
    yield wait_while(t, r, "traps")
    changed = (yield atomic_load(t, r, "changes")) != peek.changes
    g = yield from loss_fold_notes(t, r, g)
    verdict = WHOLE
    if g.lost & peek.pages:
        verdict = LOST
        yield report(t, g.lost & peek.pages, peek.pages, held=False)
    elif changed:
        verdict = OVERWRITTEN
    del changed
    yield from range_leave(t, r, g)
    yield close_peek(t, r, peek.listed)
    return verdict


# ---- repair, in the signal handler


@cache
def _own_page(t: Task, r: int) -> Op:
    """Ghost: a trap has filled a page; is it still the range's that the trap was taken for?"""
    owner = t.cell("owner")

    def perform(world: World) -> tuple[World, None]:
        must("no_foreign_repair", no_foreign_repair(world[owner], r))
        return world, None

    return Op("a trap has filled a page", perform, reads=(owner,))


def range_repair(t: Task, page: int, raw: bool = False) -> Steps[bool]:
    """`range_repair()`: True when the access may be tried again. Takes no lock, and waits for a fork alone."""
    late = t.broken.map_before_count
    while True:
        r = yield global_load(t, "owner")
        if r is None:
            return False
        if late:
            break
        yield atomic_fetch_add(t, r, "traps", 1)
        if t.m.config.child_tier is None:
            break
        shut_by = yield global_load(t, "trap_gate")
        if not shut_by or (shut_by == t.name and not t.broken.own_gate_waited_for):
            break
        del shut_by
        yield atomic_fetch_add(t, r, "traps", -1)
        yield wait_while(t, "trap_gate")
    again = False
    if (yield atomic_load(t, r, "live")) and (raw or (yield atomic_load(t, r, "peeks"))):
        again = yield from _fill(t, r, page)
    if t.broken.repair_interrupted:
        return again
    if not late:
        yield atomic_fetch_add(t, r, "traps", -1)
    return again


def _fill(t: Task, r: int, page: int) -> Steps[bool]:
    early = t.broken.note_before_zero
    if early:
        yield from _note(t, r, page)
    error = yield from os_zero(t, page)
    if error == EPERM:
        yield from os_fill_unwatched(t, page)
        error = None
    if t.broken.map_before_count:
        yield atomic_fetch_add(t, r, "traps", 1)
    if error is None:
        yield _own_page(t, r)
        if not early and not t.broken.forget_repair:
            yield from _note(t, r, page)
    if t.broken.map_before_count:
        yield atomic_fetch_add(t, r, "traps", -1)
    return error in (None, EEXIST, ENOENT, ENOMEM)


def _note(t: Task, r: int, page: int) -> Steps[None]:
    yield note_bit(t, r, page)
    yield atomic_fetch_add(t, r, "notes", 1)
