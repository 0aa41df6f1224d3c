"""`_core/protocol/range.c` and `open.c`: pins, the small reads and writes, open and close."""

from __future__ import annotations

from ..steps import Steps
from .atomics import (
    atomic_fetch_add,
    atomic_load,
    atomic_store,
    gate_enter,
    gate_leave,
    global_store,
    pins_unlocked,
    range_enter,
    range_leave,
    wait_while,
)
from .hold import hold_all, hold_part, mark
from .kernel import EFAULT, TRAP, load, os_discard, os_free_lazily, os_release, os_reserve, os_zero, store
from .machine import USERFAULTFD, Guarded, Task
from .properties import made_good, report

EAGAIN = "EAGAIN"
EBUSY = "EBUSY"


def begin_writing(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """`begin_writing()`."""
    alone = not g.writers or (yield atomic_load(t, r, "writer")) == t.id
    yield atomic_store(t, r, "writer", t.id if alone else None)
    yield atomic_store(t, r, "writing", g.writers + 1)
    if not t.broken.writers_unannounced:
        yield atomic_fetch_add(t, r, "changes", 1)
    return g._replace(writers=g.writers + 1)


def end_writing(t: Task, r: int, g: Guarded) -> Steps[Guarded]:
    """`end_writing()`."""
    if not t.broken.writers_unannounced:
        yield atomic_fetch_add(t, r, "changes", 1)
    if g.writers == 1:
        yield atomic_store(t, r, "writer", None)
    yield atomic_store(t, r, "writing", g.writers - 1)
    return g._replace(writers=g.writers - 1)


def range_pin(t: Task, r: int, write: bool) -> Steps[str | None]:
    """`range_pin()`: an errno, or None and the pin counts."""
    g = yield from range_enter(t, r)
    error = None
    if not g.pins and g.marked:
        g, error = yield from hold_all(t, r, g)
        if not error:
            g = g._replace(marked=False)
    if not error:
        g = g._replace(pins=g.pins + 1)
        if write:
            g = yield from begin_writing(t, r, g)
    yield from range_leave(t, r, g)
    return error


def range_unpin(t: Task, r: int, write: bool) -> Steps[None]:
    """`range_unpin()`."""
    g = yield from range_enter(t, r)
    if write:
        g = yield from end_writing(t, r, g)
    g = g._replace(pins=g.pins - 1)
    if not g.pins:
        g, _ = yield from mark(t, r, g)
    yield from range_leave(t, r, g)


def hold_pages(t: Task, r: int, g: Guarded, pages: int) -> Steps[tuple[Guarded, str | None, bool]]:
    """`hold_pages()`: also, whether they are to be marked afterwards."""
    if g.pins or not g.marked:
        return g, None, False
    g, error = yield from hold_part(t, r, g, pages)
    return g, error, True


def copy_held(t: Task, pages: int, value: int | None) -> Steps[tuple[int, ...]]:
    """`memcpy()` to or from pages that are held: no touch traps."""
    values: list[int] = []
    for page in t.m.pages_in(pages):
        found = yield (load(t, page) if value is None else store(t, page, value))
        assert found != TRAP, "no_stray_sigbus: a touch of a held page traps"
        values.append(found)
        del found
    return tuple(values)


def range_read(t: Task, r: int, pages: int) -> Steps[tuple[str | None, tuple[int, ...]]]:
    """`range_read()`: None and the values, or EFAULT (lost) or EAGAIN (another thread writes)."""
    g = yield from range_enter(t, r)
    again = False
    values: tuple[int, ...] = ()
    if g.writers and (yield atomic_load(t, r, "writer")) != t.id:
        error: str | None = EAGAIN
    else:
        g, error, again = yield from hold_pages(t, r, g, pages)
    if not error:
        yield report(t, g.lost & pages, pages, held=True)
        if g.lost & pages:
            error = EFAULT
        else:
            values = yield from copy_held(t, pages, None)
        if again:
            yield from os_free_lazily(t, pages)
    yield from range_leave(t, r, g)
    return error, values


def range_write(t: Task, r: int, pages: int, value: int) -> Steps[str | None]:
    """`range_write()` of whole pages."""
    g = yield from range_enter(t, r)
    g, error, again = yield from hold_pages(t, r, g, pages)
    if not error:
        g = yield from begin_writing(t, r, g)
        yield from copy_held(t, pages, value)
        g = g._replace(lost=g.lost & ~pages)
        yield made_good(t, pages)
        yield atomic_store(t, r, "lossy", g.lost != 0)
        g = yield from end_writing(t, r, g)
        g = g._replace(data=g.data | pages)
        if again:
            yield from os_free_lazily(t, pages)
        elif not g.pins:
            g, _ = yield from mark(t, r, g)
    yield from range_leave(t, r, g)
    return error


# ---- open and close


def pool_take(t: Task, r: int) -> Steps[None]:
    """`pool_take()`: `take_slot()` fills what is missing of a watched slot; `take_mapping()` maps."""
    if t.m.config.large:
        yield os_reserve(t)
    elif t.tier == USERFAULTFD:
        for page in range(t.m.config.pages):
            yield from os_zero(t, page)
    yield global_store(t, "owner", r)


def pool_give(t: Task) -> Steps[None]:
    """`pool_give()`: `give_slot()` wipes the pages; `give_mapping()` unmaps."""
    yield global_store(t, "owner", None)
    if t.m.config.large:
        yield os_release(t)
    else:
        yield from os_discard(t, t.m.all_pages)


def range_open(t: Task, r: int) -> Steps[None]:
    """`range_open()` with `struct range` number `r`, which is spare."""
    for name, value in (("writing", 0), ("lossy", False), ("notes", 0), ("noted", 0)):
        yield atomic_store(t, r, name, value)
    g = Guarded(watched=not t.m.config.large and t.tier == USERFAULTFD)
    yield from gate_enter(t)
    yield from pool_take(t, r)
    yield made_good(t, t.m.all_pages)
    yield atomic_store(t, r, "guarded", g)
    yield atomic_store(t, r, "live", True)
    yield from gate_leave(t)


def range_is_busy(t: Task, r: int) -> Steps[bool]:
    """`range_is_busy()`: callers first, since one that opens a peek is counted as a caller until that is counted."""
    if (yield atomic_load(t, r, "users")) > 1 or (yield atomic_load(t, r, "peeks")) > 0:
        return True
    pins = yield pins_unlocked(t, r)
    return int(pins) > 0


def range_close(t: Task, r: int, keep: bool = False) -> Steps[str | None]:
    """`range_close()`: EBUSY while a pin, a peek or another call lives. The caller counts in `users`. `keep`:
    `range_close_and_keep()`, whose memory stays as it is and is nobody's.
    """
    g = yield from range_enter(t, r)
    if t.broken.close_before_looking:
        yield atomic_store(t, r, "live", False)
    if not t.broken.kept_in_use and (yield from range_is_busy(t, r)):
        if t.broken.close_before_looking:
            yield atomic_store(t, r, "live", True)
        yield from range_leave(t, r, g)
        return EBUSY
    yield atomic_store(t, r, "live", False)
    if not t.broken.close_ignores_traps:
        yield wait_while(t, r, "traps")
    if keep:
        yield global_store(t, "owner", None)
    else:
        yield from pool_give(t)
    yield from range_leave(t, r, g._replace(lingers=False))
    return None
