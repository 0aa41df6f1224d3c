"""`_core/protocol/loss.c`: the record of what was lost."""

from __future__ import annotations

from ..steps import Steps
from .atomics import atomic_fetch_add, atomic_load, atomic_store, range_enter, range_leave, take_bits
from .kernel import ENOENT, os_scan, os_zero
from .machine import USERFAULTFD, Guarded, Task
from .properties import made_good, report


def announce_loss(t: Task, r: int) -> Steps[None]:
    """`announce_loss()`: peeks that begin from now on see `lossy`, earlier ones see `changes` move."""
    yield atomic_store(t, r, "lossy", True)
    yield atomic_fetch_add(t, r, "changes", 1)


def record_lost_pages(g: Guarded, pages: int) -> Guarded:
    """`record_lost_pages()`."""
    return g._replace(data=g.data & ~pages, lost=g.lost | pages)


def loss_fold_notes(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """`loss_fold_notes()`."""
    if not (yield atomic_load(t, r, "notes")):
        return g
    early = t.broken.fold_bits_first
    if not t.broken.fold_announces_late:
        yield from announce_loss(t, r)
    bits = (yield take_bits(t, r)) if early else 0
    yield atomic_store(t, r, "notes", 0)
    bits = bits if early else (yield take_bits(t, r))
    if t.broken.fold_announces_late:
        yield from announce_loss(t, r)
    g = record_lost_pages(g, bits)
    yield atomic_store(t, r, "lossy", g.lost != 0)
    return g


def probe_by_filling(t: Task, r: int, g: Guarded, pages: int) -> Steps[tuple[Guarded, int]]:
    """`probe_by_filling()`, for where the pagemap cannot be read: a page that can be filled was missing.

    It counts as a trap while it fills, so that no peek ends between the zero page and the announcement.
    """
    found = 0
    rest = t.m.pages_in(g.data & pages)
    while rest:
        if not t.broken.probe_announces_late:
            yield atomic_fetch_add(t, r, "traps", 1)
        filled, error = 0, None
        while rest and not error:
            error = yield from os_zero(t, rest[0])
            filled |= 0 if error else 1 << rest[0]
            if error == ENOENT:
                g = g._replace(data=g.data & ~(1 << rest[0]))
            rest = rest[1:]
        if filled and not found:
            yield from announce_loss(t, r)
        g = record_lost_pages(g, filled)
        found |= filled
        if not t.broken.probe_announces_late:
            yield atomic_fetch_add(t, r, "traps", -1)
    return g, found


def loss_find_missing(t: Task, r: int, g: Guarded, pages: int, *, zeroed: bool) -> Steps[tuple[Guarded, int]]:
    """`loss_find_missing()`: the pages of `data` that are gone; `zeroed`: also those that are the zero page by now."""
    if not zeroed and not t.m.config.pagemap:
        return (yield from probe_by_filling(t, r, g, pages))
    classes = ("missing", "zero") if zeroed else ("missing",)
    found = yield from os_scan(t, classes, g.data & pages)
    if found and not t.broken.announce_after_settling:
        yield from announce_loss(t, r)
    return record_lost_pages(g, found), found


def loss_record_all(t: Task, r: int, g: Guarded, pages: int) -> Steps[Guarded]:
    """`loss_record_all()`: what cannot be told counts as lost."""
    yield from announce_loss(t, r)
    return record_lost_pages(g, pages)


def range_survey(t: Task, r: int) -> Steps[None]:
    """`range_survey()`: find losses without holding anything."""
    g = yield from range_enter(t, r)
    g = yield from loss_fold_notes(t, r, g)
    if g.marked:
        zeroed = t.tier != USERFAULTFD
        g, _ = yield from loss_find_missing(t, r, g, t.m.all_pages, zeroed=zeroed)
    yield from range_leave(t, r, g)


def range_lost(t: Task, r: int, pages: int) -> Steps[int]:
    """`range_lost()`, for a caller that holds the range: what is lost of `pages`, checked against what was purged."""
    g = yield from range_enter(t, r)
    yield report(t, g.lost & pages, pages, held=True)
    yield from range_leave(t, r, g)
    return g.lost & pages


def range_forgive(t: Task, r: int, pages: int) -> Steps[None]:
    """`range_forgive()`: rebuilt, or zeros accepted."""
    g = yield from range_enter(t, r)
    yield atomic_fetch_add(t, r, "changes", 1)
    g = g._replace(lost=g.lost & ~pages)
    yield made_good(t, pages)
    yield atomic_store(t, r, "lossy", g.lost != 0)
    yield from range_leave(t, r, g)
