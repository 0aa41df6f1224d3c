"""The stock kernel, at the steps that it gives: what is atomic there is one step here.

Everything that walks a range goes page by page, each under the pte lock, so that reclaim, traps and other threads
come between any two pages. That is more than the kernel allows in places (a scan holds the pte lock over a whole page
table, a purge of a shared page asks the other sharers), which can only add schedules.

`mmap_lock` appears as `forking` alone: a fork holds it for writing, so nothing else is done to the mappings meanwhile.
The rest of what it orders is one step anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from ..steps import Op, Steps, put, puts
from .atomics import global_store
from .machine import USERFAULTFD, ZERO_PAGE, Pte, Task, World

TRAP: Final = "SIGBUS"
EFAULT: Final = "EFAULT"
EEXIST: Final = "EEXIST"
ENOENT: Final = "ENOENT"
EPERM: Final = "EPERM"
ENOMEM: Final = "ENOMEM"
EINTR: Final = "EINTR"

Perform = Callable[[World, Pte | None, bool], tuple[Pte | None, Any]]


def _on_page(t: Task, label: str, page: int, perform: Perform) -> Op:
    """One page under its pte lock: `perform(world, pte, registered)` gives the pte and the result."""
    pte, registered = t.cell("pte", page), t.cell("registered")
    forking, mapped = t.cell("forking"), t.cell("mapped")

    def act(world: World) -> tuple[World, Any]:
        if not world[mapped]:
            return world, ENOMEM
        after, result = perform(world, world[pte], world[registered])
        return (world if after == world[pte] else put(world, pte, after)), result

    return Op(
        f"{label} page {page}",
        act,
        reads=(registered, forking, mapped),
        writes=(pte,),
        ready=lambda world: not world[forking],
    )


# ---- what a program does


@cache
def load(t: Task, page: int) -> Op:
    """A load: the value, or TRAP. A hole that nobody watches gets the zero page (`do_anonymous_page`)."""
    forking = t.cell("forking")

    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if pte is not None:
            return pte, pte.value
        return (None, TRAP) if registered else (ZERO_PAGE, 0)

    op = _on_page(t, "load", page, perform)
    cell = t.cell("pte", page)
    op.ready = lambda world: world[cell] is not None or not world[forking]
    mapped, registered = t.cell("mapped"), t.cell("registered")

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        if world[cell] is not None or world[registered]:
            return frozenset((cell, mapped, registered, forking)), frozenset()
        return frozenset((cell, mapped, registered, forking)), frozenset((cell,))

    op.footprint = footprint
    return op


@cache
def store(t: Task, page: int, value: int) -> Op:
    """A store: None, or TRAP. It dirties the pte, which ends the lazy free; a shared or zero page is copied first."""

    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        return (pte, TRAP) if pte is None and registered else (Pte(value), None)

    return _on_page(t, f"store {value} to", page, perform)


@cache
def atomic_or_nothing(t: Task, page: int) -> Op:
    """`atomic_fetch_or(page, 0)`: finds the page there and dirties it in one step. None, or TRAP."""

    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if pte is None and registered:
            return None, TRAP
        return Pte(pte.value if pte is not None else 0), None

    return _on_page(t, "touch", page, perform)


# ---- system calls


@cache
def _free_lazily(t: Task, page: int) -> Op:
    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        return (pte if pte is None or pte.zero_page else pte._replace(lazy=True)), None

    return _on_page(t, "MADV_FREE", page, perform)


def os_free_lazily(t: Task, pages: int) -> Steps[None]:
    """`os_free_lazily()`: `madvise_free_pte_range`, page by page."""
    for page in t.m.pages_in(pages):
        yield _free_lazily(t, page)


@cache
def _populate_write(t: Task, page: int) -> Op:
    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if pte is None and registered:
            return None, EFAULT
        if pte is None or pte.zero_page:
            return Pte(0), "faulted"
        return pte._replace(lazy=False, shared=False), "faulted" if pte.shared else None

    return _on_page(t, "MADV_POPULATE_WRITE", page, perform)


@cache
def _signal_pending(t: Task) -> Op:
    cell = t.cell("signal")
    return Op("signal_pending()", lambda world: (put(world, cell, False), world[cell]), writes=(cell,))


@cache
def signal(t: Task) -> Op:
    """A signal arrives."""
    cell = t.cell("signal")
    return Op("a signal arrives", lambda world: (put(world, cell, True), None), writes=(cell,))


def os_populate_write(t: Task, pages: int) -> Steps[tuple[str | None, int]]:
    """`os_populate_write()`: dirties what is there, which cancels the lazy free; EFAULT at a missing watched page,
    EINTR half way where a signal waits.

    Also how much `os_minor_faults()` moved meanwhile.
    """
    faults = 0
    for page in t.m.pages_in(pages):
        if t.m.config.signals and (yield _signal_pending(t)):
            return EINTR, faults
        result = yield _populate_write(t, page)
        if result == "faulted":
            faults += 1
        elif result is not None:
            return result, faults
        del result
    return None, faults


@cache
def _populate_read(t: Task, page: int) -> Op:
    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if pte is None:
            return (None, EFAULT) if registered else (ZERO_PAGE, None)
        return pte, None

    return _on_page(t, "MADV_POPULATE_READ", page, perform)


def os_populate_read(t: Task, pages: int) -> Steps[str | None]:
    """`os_populate_read()`: every hole gets the zero page; EFAULT at a missing watched page."""
    for page in t.m.pages_in(pages):
        error = yield _populate_read(t, page)
        if error:
            return str(error)
    return None


@cache
def _zero(t: Task, page: int) -> Op:
    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if not registered:
            return pte, ENOENT
        return (pte, EEXIST) if pte is not None else (ZERO_PAGE, None)

    return _on_page(t, "UFFDIO_ZEROPAGE", page, perform)


def os_zero(t: Task, page: int) -> Steps[str | None]:
    """`os_zero()` of one page: None where it was missing and is filled now, else EEXIST or ENOENT; or it is refused."""
    if t.m.config.sandboxed:
        return EPERM
    error = yield _zero(t, page)
    return error  # type: ignore[no-any-return]


@cache
def _copy(t: Task, page: int, value: int) -> Op:
    def perform(world: World, pte: Pte | None, registered: bool) -> tuple[Pte | None, Any]:
        if not registered:
            return pte, ENOENT
        return (pte, EEXIST) if pte is not None else (Pte(value), None)

    return _on_page(t, f"UFFDIO_COPY {value} to", page, perform)


def os_copy(t: Task, page: int, value: int) -> Steps[str | None]:
    """`os_copy()` of one page: as `os_zero`, with bytes in it."""
    error = yield _copy(t, page, value)
    return error  # type: ignore[no-any-return]


@cache
def _discard(t: Task, page: int) -> Op:
    return _on_page(t, "MADV_DONTNEED", page, lambda world, pte, registered: (None, None))


def os_discard(t: Task, pages: int) -> Steps[None]:
    """`os_discard()`: page by page."""
    for page in t.m.pages_in(pages):
        yield _discard(t, page)


@cache
def _pagemap(t: Task, page: int) -> Op:
    cell, forking = t.cell("pte", page), t.cell("forking")

    def perform(world: World) -> tuple[World, str]:
        pte = world[cell]
        return world, "missing" if pte is None else "zero" if pte.zero_page else "data"

    return Op(
        f"pagemap of page {page}", perform, reads=(cell, forking), ready=lambda world: not world[forking]
    )


def os_scan(t: Task, classes: tuple[str, ...], pages: int) -> Steps[int]:
    """`os_scan()`: those of `pages` that were in one of the classes when they were looked at, one after the other.

    Classes are "missing", "zero" and "data".
    """
    found = 0
    for page in t.m.pages_in(pages):
        kind = yield _pagemap(t, page)
        if kind in classes:
            found |= 1 << page
        del kind
    return found


@cache
def _register(t: Task, on: bool) -> Op:
    cell, forking = t.cell("registered"), t.cell("forking")
    return Op(
        "UFFDIO_REGISTER" if on else "UFFDIO_UNREGISTER",
        lambda world: (put(world, cell, on), None),
        reads=(forking,),
        writes=(cell,),
        ready=lambda world: not world[forking],
    )


def os_watch(t: Task) -> Op:
    """`os_watch()`: UFFDIO_REGISTER, under `mmap_lock` for writing."""
    return _register(t, True)


def os_unwatch(t: Task) -> Op:
    """`os_unwatch()`."""
    return _register(t, False)


def os_stop_watching(t: Task) -> Op:
    """`os_stop_watching()`: the last close() of a userfaultfd lets go of all that it watched."""
    return _register(t, False)


def end_watch(t: Task) -> Steps[None]:
    """What a trap does that cannot fill: it says so first."""
    if not t.broken.ended_late:
        yield global_store(t, "watch_ended", True)
    yield os_stop_watching(t)
    if t.broken.ended_late:
        yield global_store(t, "watch_ended", True)


def os_fill_unwatched(t: Task, page: int) -> Steps[None]:
    """`os_fill_unwatched()`, where our descriptor is open and refused."""
    while (yield from os_populate_read(t, 1 << page)) == EFAULT:
        yield from end_watch(t)


@cache
def _mlocked(t: Task, on: bool) -> Op:
    cell, ptes = t.cell("mlocked"), t.m.ptes(t.mm)
    label = "mlock2(MLOCK_ONFAULT)" if on else "munlock"
    return Op(label, lambda world: (put(world, cell, on), None), reads=ptes, writes=(cell,))


def os_hold_resident(t: Task) -> Op:
    """`os_hold_resident()`: from here on reclaim meets VM_LOCKED under the pte lock and leaves the page."""
    return _mlocked(t, True)


def os_let_go(t: Task) -> Op:
    """`os_let_go()`."""
    return _mlocked(t, False)


@cache
def os_release(t: Task) -> Op:
    """`os_release()`: munmap."""
    cells = (t.cell("mapped"), t.cell("registered"), *t.m.ptes(t.mm))
    forking = t.cell("forking")
    return Op(
        "munmap",
        lambda world: (
            puts(world, *zip(cells, (False, False, *(None for _ in cells[2:])), strict=True)),
            None,
        ),
        reads=(forking,),
        writes=cells,
        ready=lambda world: not world[forking],
    )


@cache
def os_reserve(t: Task) -> Op:
    """`os_reserve()`: mmap, which here always finds the address that was given back last."""
    cell = t.cell("mapped")
    return Op("mmap", lambda world: (put(world, cell, True), None), writes=(cell,))


# ---- what the kernel does by itself


@cache
def purge(t: Task, page: int) -> Op:
    """Reclaim takes a lazily freed page that nobody has written since: `try_to_unmap_one`, under the pte lock.

    Where nothing traps, nobody can tell that a page of zeros went: the library leaves some volatile under a pin
    (`lose_all()` in a read). So that is no loss there.
    """
    cell, gone, mlocked = t.cell("pte", page), t.cell("gone", page), t.cell("mlocked")
    traps = t.tier == USERFAULTFD

    def perform(world: World) -> tuple[World, None]:
        return puts(world, (cell, None), (gone, world[gone] or traps or world[cell].value != 0)), None

    def ready(world: World) -> bool:
        return world[cell] is not None and world[cell].lazy and not world[mlocked]

    return Op(f"reclaim purges page {page}", perform, reads=(mlocked,), writes=(cell, gone), ready=ready)
