"""`_core/protocol/hold.c`: mark and unmark."""

from __future__ import annotations

from typing import Final

from ..steps import Steps
from .atomics import atomic_fetch_add, atomic_load, global_load, wait_while
from .kernel import (
    EEXIST,
    EFAULT,
    ENOENT,
    TRAP,
    atomic_or_nothing,
    os_discard,
    os_free_lazily,
    os_hold_resident,
    os_let_go,
    os_populate_read,
    os_populate_write,
    os_scan,
    os_unwatch,
    os_watch,
    os_zero,
    store,
)
from .loss import announce_loss, loss_find_missing, loss_fold_notes, loss_record_all
from .machine import FAULTCOUNT, USERFAULTFD, Guarded, Task
from .peek import range_repair
from .properties import must

Held = Steps[tuple[Guarded, str | None]]
"""The fields of the range afterwards, and an errno or None."""

FRUITLESS: Final = 100


def await_traps(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """`await_traps()`: then no zero page of a trap is without its note."""
    yield wait_while(t, r, "traps")
    return (yield from loss_fold_notes(t, r, g))


def populate_data(t: Task, g: Guarded, pages: int) -> Steps[str | None]:
    """`populate_data()`."""
    error, _ = yield from os_populate_write(t, g.data & pages)
    return error


def touch_data(t: Task, r: int, g: Guarded, pages: int) -> Steps[bool]:
    """`touch_data()`: write each page what it holds. A missing one traps, like a peek's, and the note ends it."""
    whole = True
    yield atomic_fetch_add(t, r, "peeks", 1)
    for page in t.m.pages_in(g.data & pages):
        while (yield atomic_or_nothing(t, page)) == TRAP:
            repaired = yield from range_repair(t, page)
            must("no_stray_sigbus", None if repaired else "a touch that is to hold a page kills")
            del repaired
        whole = not (yield atomic_load(t, r, "notes"))
        if not whole:
            break
    yield atomic_fetch_add(t, r, "peeks", -1)
    if t.broken.touch_believed_early:
        return whole
    yield wait_while(t, r, "traps")
    return whole and not (yield atomic_load(t, r, "notes"))


def hold_watched(t: Task, r: int, g: Guarded, pages: int) -> Held:
    """`hold_watched()`."""
    if t.m.config.touch:
        g = yield from loss_fold_notes(t, r, g)
        if (yield from touch_data(t, r, g, pages)):
            return g, None
        g = yield from loss_fold_notes(t, r, g)
    return (yield from hold_by_populating(t, r, g, pages))


def hold_by_populating(t: Task, r: int, g: Guarded, pages: int) -> Held:
    """`hold_by_populating()`: populate until a try succeeds."""
    if t.broken.check_then_pin:
        g, _ = yield from loss_find_missing(t, r, g, pages, zeroed=False)
        yield from populate_data(t, g, pages)
        return (yield from await_traps(t, r, g)), None
    fruitless = 0
    while fruitless < FRUITLESS:
        g = yield from loss_fold_notes(t, r, g)
        error = yield from populate_data(t, g, pages)
        g = yield from await_traps(t, r, g)
        if error != EFAULT:
            return g, error
        del error
        g, found = yield from loss_find_missing(t, r, g, pages, zeroed=False)
        fruitless = 0 if found else fruitless + 1
        del found
    return g, EFAULT


def lose_all(t: Task, r: int, g: Guarded, pages: int) -> Steps[Guarded]:
    """`lose_all()`: something of it was purged and nothing tells what; `memset()`."""
    g = yield from loss_record_all(t, r, g, pages)
    for page in t.m.pages_in(pages):
        yield store(t, page, 0)
    return g


def extents(t: Task, pages: int) -> tuple[int, ...]:
    """A set of pages, cut into runs of neighbours."""
    runs: list[int] = []
    for page in t.m.pages_in(pages):
        if runs and runs[-1] >> page - 1 & 1 and page:
            runs[-1] |= 1 << page
        else:
            runs.append(1 << page)
    return tuple(runs)


def hold_counted_part(t: Task, r: int, g: Guarded, pages: int, shared: bool) -> Held:
    """`hold_counted_part()`: a populate that faulted met a page that was not there, or one that a fork shares."""
    resident = False
    if shared and t.m.config.mlock:
        yield os_hold_resident(t)
        resident = True
    g, _ = yield from loss_find_missing(t, r, g, pages, zeroed=True)
    error = None
    for run in extents(t, g.data & pages):
        error, faults = yield from os_populate_write(t, run)
        if not resident and faults and not (error and t.broken.count_faults_late):
            g = yield from lose_all(t, r, g, run)
        del faults
        if error:
            break
    if resident:
        yield os_let_go(t)
    return g, error


def hold_counted(t: Task, r: int, g: Guarded, pages: int) -> Held:
    """`hold_counted()`; the range here is one COUNTED_PART."""
    forks = 0
    if t.m.config.child_tier is not None:
        forks = yield global_load(t, "forks")
    g, error = yield from hold_counted_part(t, r, g, pages, g.fork_count != forks)
    if not error and pages == t.m.all_pages:
        g = g._replace(fork_count=forks)
    return g, error


def fill(t: Task, g: Guarded, pages: int) -> Steps[str | None]:
    """`fill()`: what is missing of the lost pages becomes zero memory again, and stays watched."""
    for page in t.m.pages_in(g.lost & pages):
        error = yield from os_zero(t, page)
        if error not in (None, EEXIST, ENOENT):
            return error
        del error
    return None


def hold_filled(t: Task, g: Guarded, pages: int) -> Steps[str | None]:
    """`hold_filled()`: what is real of the lost pages is held like data."""
    found = g.lost & pages
    if t.m.config.pagemap:
        found = yield from os_scan(t, ("data",), found)
    error, _ = yield from os_populate_write(t, found)
    return error


def settle(t: Task, r: int, g: Guarded, pages: int) -> Held:
    """`settle()`: first what is real is held, then what is missing is filled. Where nothing can be
    scanned, all is filled and populated."""
    fill_first = not t.m.config.pagemap or t.broken.fill_before_holding
    error: str | None = EFAULT
    while error == EFAULT:
        error = (yield from fill(t, g, pages)) if fill_first else None
        if not error and not t.broken.settle_leaves_repaired:
            error = yield from hold_filled(t, g, pages)
    if not error and not fill_first:
        error = yield from fill(t, g, pages)
    if t.broken.announce_after_settling:
        yield from announce_loss(t, r)
    return (g if t.broken.settle_forgets_notes else (yield from await_traps(t, r, g))), error


def hold_part(t: Task, r: int, g: Guarded, pages: int) -> Held:
    """`hold_part()`."""
    if t.tier == FAULTCOUNT:
        return (yield from hold_counted(t, r, g, pages))
    g, error = yield from hold_watched(t, r, g, pages)
    if error:
        return g, error
    if t.broken.unwatch_part and t.m.config.large and pages == t.m.all_pages and g.lost:
        yield os_unwatch(t)
        return (yield from await_traps(t, r, g._replace(watched=False))), None
    return (yield from settle(t, r, g, pages)) if g.lost else (g, None)


def make_room_for_huge_pages(t: Task, g: Guarded) -> Steps[Guarded]:
    """`make_room_for_huge_pages()`: each page of a large range stands for a huge page."""
    yield from os_discard(t, g.lost)
    return g._replace(data=g.data & ~g.lost)


def hold_all(t: Task, r: int, g: Guarded) -> Held:
    """`hold_all()`: for a pin."""
    everything = t.m.all_pages
    large = t.m.config.large and g.watched
    g, error = yield from (hold_watched if large else hold_part)(t, r, g, everything)
    if error or not g.lost:
        return g, error
    if large:
        yield os_unwatch(t)
        g = g._replace(watched=False)
        if not t.broken.settle_forgets_notes:
            g = yield from await_traps(t, r, g)
    if large or (t.m.config.large and t.tier == FAULTCOUNT):
        g = yield from make_room_for_huge_pages(t, g)
    return g, None


def find_data(t: Task, g: Guarded) -> Steps[Guarded]:
    """`find_data()`: nothing is volatile now, so what is missing was never written."""
    if not t.m.config.pagemap:
        return g._replace(data=t.m.all_pages)
    found = yield from os_scan(t, ("data",), t.m.all_pages)
    return g._replace(data=found)


def watch(t: Task, g: Guarded) -> Held:
    """`watch()`: first every hole gets the zero page, then the range is registered."""
    full = t.m.config.pagemap and g.data == t.m.all_pages
    if t.broken.watch_before_filling:
        yield os_watch(t)
    error = None if full else (yield from os_populate_read(t, t.m.all_pages))
    if error:
        return g, error
    if not t.broken.watch_before_filling:
        yield os_watch(t)
    return g._replace(watched=True), None


def mark(t: Task, r: int, g: Guarded) -> Held:
    """`mark()`."""
    unwatched = not g.watched and t.tier == USERFAULTFD
    error = None
    if unwatched or g.data != t.m.all_pages:
        g = yield from find_data(t, g)
    if unwatched:
        g, error = yield from watch(t, g)
    if not error:
        g = g._replace(marked=True)
        yield from os_free_lazily(t, t.m.all_pages)
    return g._replace(lingers=False), error
