"""What programs do with a range: the library's Python layer above the protocol, and the actors of the litmus tests.

Data is in versions: a program writes one number to all pages, so that a reader can tell whether what it read belongs
together. Version 0 is never written: zeros are what the kernel gives for lost pages.
"""

from __future__ import annotations

from typing import Any, Final

from ..steps import Steps, run
from .atomics import atomic_load, gil, unuse_range, use_range
from .forks import fork, in_child
from .kernel import EINTR, ENOMEM, TRAP, end_watch, load, purge, signal, store
from .kernel_fork import wait_to_be_born
from .loss import range_forgive, range_lost, range_survey
from .machine import CHILD, USERFAULTFD, Machine, Task, World
from .peek import (
    LOST,
    UNSURE,
    WHOLE,
    Peek,
    range_peek_begin,
    range_peek_begin_carefully,
    range_peek_end,
    range_peek_end_carefully,
    range_repair,
)
from .properties import must, no_silent_zeros, peek_reads_whole, pin_reads_whole, report
from .ranges import (
    EBUSY,
    range_close,
    range_is_busy,
    range_open,
    range_pin,
    range_read,
    range_unpin,
    range_write,
)
from .stores import range_open_stored
from .watch import watch_check

REBUILT: Final = "rebuilt"
CLOSED: Final = "closed"


def touch(t: Task, page: int, raw: bool = False, blocked: bool = False) -> Steps[int | None]:
    """A load with the handler behind it (`trap.c`): the value, or None where the signal kills: it is handed on, or
    `blocked`."""
    while True:
        value = yield load(t, page)
        if value == ENOMEM:  # unmapped: SIGSEGV
            return None
        if value != TRAP:
            return int(value)
        del value
        if blocked or not (yield from range_repair(t, page, raw)):
            return None


def read_held(t: Task) -> Steps[tuple[int, ...]]:
    """Read every page under a pin; no touch may trap."""
    values = []
    for page in range(t.m.config.pages):
        value = yield load(t, page)
        must("no_stray_sigbus", f"page {page} traps while it is held" if value == TRAP else None)
        values.append(value)
        del value
    return tuple(values)


def write_held(t: Task, version: int) -> Steps[None]:
    """Write a version to every page under a pin."""
    for page in range(t.m.config.pages):
        trapped = yield store(t, page, version)
        must("no_stray_sigbus", f"page {page} traps while it is held" if trapped else None)


def settled_hold(t: Task, write: bool, version: int | None, r: int = 0, keep: bool = False) -> Steps[str]:
    """`VolatileMemory._settled_hold()`: pin; after a loss rebuild as `version`, or give up (None) unless told to `keep`
    the pin all the same."""
    error = yield from range_pin(t, r, write)
    while error == EINTR:
        error = yield from range_pin(t, r, write)
    assert not error, f"no_lost_report: a pin fails with {error}"
    del error
    everything = t.m.all_pages
    if not (yield atomic_load(t, r, "lossy")):
        yield report(t, 0, everything, held=True)
        return WHOLE
    lost = yield from range_lost(t, r, everything)
    if not lost:
        return WHOLE  # another thread has rebuilt it meanwhile
    del lost
    if version is None:
        if not keep:
            yield from range_unpin(t, r, write)
        return LOST
    yield from range_pin(t, r, True)
    yield from write_held(t, version)
    yield from range_unpin(t, r, True)
    yield from range_forgive(t, r, everything)
    return REBUILT


def pin(t: Task, write: int | None = None, rebuild: int | None = None, nested: bool = False) -> Steps[str]:
    """``with mem.pin(...)``: read all pages, or write a version to all; `nested`: a second pin inside."""
    writing = write is not None
    found = yield from settled_hold(t, writing, rebuild)
    if found == LOST:
        return found
    if write is not None:
        yield from write_held(t, write)
    else:
        values = yield from read_held(t)
        must("pin_reads_whole", pin_reads_whole(values))
        del values
    if nested:
        inner = yield from settled_hold(t, False, None)
        assert inner != LOST, "no_false_loss: a nested pin of whole data calls it lost"
        yield from range_unpin(t, 0, False)
    yield from range_unpin(t, 0, writing)
    return found


def traps_here(t: Task, blocked: bool) -> bool:
    """`traps_here()`. A mask that has changed since the last tick is not modelled."""
    return t.tier == USERFAULTFD and (not blocked or t.broken.blocked_reads_unheld)


def peek_enter(t: Task, pages: int, r: int = 0, blocked: bool = False) -> Steps[tuple[str, Peek | None]]:
    """`peek_enter()`: where nothing traps, or the thread has the signal `blocked`, a pin first, which a loss or a
    writer ends at once."""
    closes = t.m.config.ranges > 1
    if closes and not (yield use_range(t, r)):
        return CLOSED, None
    verdict, peek = yield from _peek_begin(t, pages, r, blocked)
    if closes:
        yield unuse_range(t, r)
    return verdict, peek


def _peek_begin(t: Task, pages: int, r: int, blocked: bool) -> Steps[tuple[str, Peek | None]]:
    pinned = not traps_here(t, blocked)
    if pinned:
        error = yield from range_pin(t, r, False)
        assert not error, f"no_lost_report: a pin fails with {error}"
        if t.broken.plain_pin_peek and not (yield atomic_load(t, r, "lossy")):
            return WHOLE, None
    verdict, peek = yield from range_peek_begin(t, r, pages)
    if verdict == UNSURE:
        verdict, peek = yield from range_peek_begin_carefully(t, r, pages)
    if pinned and verdict != WHOLE:
        yield from range_unpin(t, r, False)
    return verdict, peek and peek._replace(pinned=pinned)


def peek_exit(t: Task, peek: Peek | None, r: int = 0) -> Steps[str]:
    """`peek_exit()`; `peek` is None for a pin that does not look at writers."""
    verdict = WHOLE
    if peek is not None:
        verdict = yield from range_peek_end(t, peek)
        if verdict == UNSURE:
            verdict = yield from range_peek_end_carefully(t, peek)
    if peek is None or peek.pinned:
        yield from range_unpin(t, r, False)
    return verdict


def read_peeked(t: Task, pages: int, blocked: bool = False) -> Steps[tuple[int, ...]]:
    """Touch each page once, inside a peek."""
    values = []
    for page in t.m.pages_in(pages):
        value = yield from touch(t, page, blocked=blocked)
        must("no_stray_sigbus", "a touch inside a peek kills" if value is None else None)
        values.append(value or 0)
        del value
    return tuple(values)


def peek(t: Task, pages: int | None = None, zeros: bool = False, blocked: bool = False) -> Steps[str]:
    """``with mem.peek()``: read, and learn at the end whether it was whole. `zeros`: data never written is whole."""
    pages = t.m.all_pages if pages is None else pages
    verdict, opened = yield from peek_enter(t, pages, blocked=blocked)
    if verdict != WHOLE:
        return verdict
    if t.broken.validate_first:
        verdict = yield from peek_exit(t, opened)
        values = yield from read_peeked(t, pages, blocked)
    else:
        values = yield from read_peeked(t, pages, blocked)
        verdict = yield from peek_exit(t, opened)
    if verdict == WHOLE and not zeros:
        must("peek_reads_whole", peek_reads_whole(values))
    return verdict


def trap_elsewhere(t: Task) -> Steps[None]:
    """A peek of another range touches what is lost, and ioctl(2) is refused: nothing of it is noted in this range."""
    yield from end_watch(t)
    yield from watch_check(t)


def copy_out(t: Task, pages: int, zeros: bool = False, blocked: bool = False) -> Steps[str | tuple[int, ...]]:
    """`copy_out()`, which `read()` is: a peek first, and under the lock where only that can tell.

    `zeros`: they are no sign of a loss that nobody told of.
    """
    if traps_here(t, blocked):
        verdict, opened = yield from range_peek_begin(t, 0, pages, listed=False)
        if opened is not None:
            values = yield from read_peeked(t, pages, blocked)
            verdict = yield from peek_exit(t, opened)
            if verdict == WHOLE:
                must("peek_reads_whole", None if zeros else peek_reads_whole(values))
                return values
            del values
        del verdict, opened
    error, values = yield from range_read(t, 0, pages)
    if error:
        return error
    must("peek_reads_whole", None if zeros else peek_reads_whole(values))
    return values


def write(t: Task, pages: int, version: int) -> Steps[str | None]:
    """`write()`."""
    error = yield from range_write(t, 0, pages, version)
    assert not error, f"no_lost_report: a write fails with {error}"
    return error


def survey(t: Task) -> Steps[None]:
    """`purged()`: look for losses without holding."""
    yield from range_survey(t, 0)


def close(t: Task, r: int = 0, keep: bool = False) -> Steps[str]:
    """`close()`: decided with the GIL held, under which every call begins; a refusal changes nothing."""
    if not (yield use_range(t, r)):
        return CLOSED
    yield gil(t, True)
    looks = not t.broken.close_before_looking and not t.broken.kept_in_use
    if looks and (yield from range_is_busy(t, r)):
        yield gil(t, False)
        yield unuse_range(t, r)
        return EBUSY
    yield gil(t, False, closed=True)
    error = yield from range_close(t, r, keep)
    if t.broken.close_before_looking and error:
        return error
    must("deadlock", f"a memory that was not busy is not closed: {error}" if error else None)
    return CLOSED


def close_and_reopen(t: Task, r: int, version: int) -> Steps[str]:
    """`close()`; the memory goes to `struct range` number `r`, which is written, marked, and pinned again later."""
    found = yield from close(t)
    if found != CLOSED:
        return found
    yield from range_open(t, r)
    yield from range_pin(t, r, True)
    old = yield from read_held(t)
    must("no_silent_zeros", f"the new owner reads {old}" if any(old) else None)
    yield from write_held(t, version)
    yield from range_unpin(t, r, True)
    found = yield from settled_hold(t, False, None, r)
    if found == WHOLE:
        values = yield from read_held(t)
        must("pin_reads_whole", pin_reads_whole(values))
    return str(found)


def close_and_store(t: Task, r: int, version: int, keep: bool = True) -> Steps[str]:
    """A large value leaves, and another is stored in its memory, with `struct range` number `r`; it is read later."""
    found = yield from close(t, keep=keep)
    if found != CLOSED:
        return found
    yield from range_open_stored(t, r, version, keep)
    found = yield from settled_hold(t, False, None, r)
    if found == WHOLE:
        values = yield from read_held(t)
        must("pin_reads_whole", pin_reads_whole((*values, version)))
    return str(found)


def stray(t: Task, page: int, raw: bool) -> Steps[int | None]:
    """A touch outside any peek, against the contract; `raw`: a Python handler ran and the touch faults again."""
    return (yield from touch(t, page, raw))


def forker(
    t: Task, library_first: bool = True, peeking: bool = False, zeros: bool = False, interrupted: bool = False
) -> Steps[str]:
    """A thread that forks, inside a peek of its own (if it can have one) or not; `interrupted`: see `fork`."""
    opened = None
    if peeking:
        _, opened = yield from peek_enter(t, t.m.all_pages)
    yield from fork(t, opened, library_first, interrupted and opened is not None)
    if opened is None:
        return WHOLE
    values = yield from read_peeked(t, t.m.all_pages)
    verdict = yield from peek_exit(t, opened)
    if verdict == WHOLE and not zeros:
        must("peek_reads_whole", peek_reads_whole(values))
    return verdict


def child(t: Task, zeros: bool = False) -> Steps[str]:
    """The child's one thread: the fork's handler, the peek it was forked in, if any, then a pin. `zeros`: there was no
    data."""
    assert t.mm == CHILD
    opened = yield wait_to_be_born(t)
    yield from in_child(t)
    if opened is not None:
        values = yield from read_peeked(t, t.m.all_pages)
        verdict = yield from peek_exit(t, opened)
        if verdict == WHOLE and not zeros:
            must("no_silent_zeros", no_silent_zeros(values))
            must("peek_reads_whole", peek_reads_whole(values))
        del values, verdict
    del opened
    found = yield from settled_hold(t, False, None)
    if found != LOST:
        values = yield from read_held(t)
        must("no_silent_zeros", None if zeros else no_silent_zeros(values))
        del values
        yield from range_unpin(t, 0, False)
    return found


def in_turn(t: Task, parts: tuple[tuple[Any, dict[str, Any]], ...]) -> Steps[tuple[Any, ...]]:
    """Programs one after the other, each as ``(program, arguments)``."""
    results = []
    for program, arguments in parts:
        result = yield from program(t, **arguments)
        results.append(result)
        del result
    return tuple(results)


def reclaim(t: Task, page: int, times: int = 1) -> Steps[None]:
    """Reclaim of one page, at most `times`; whether and when is the schedule's choice. A daemon."""
    for _ in range(times):
        yield purge(t, page)


def interrupt(t: Task, times: int = 1) -> Steps[None]:
    """Signals that interrupt a populate, at most `times`. A daemon."""
    for _ in range(times):
        yield signal(t)


def prepared(m: Machine, version: int = 1, world: World | None = None) -> World:
    """A world whose range holds a version and is volatile."""
    t = Task(m, "setup")
    return run(m.initial() if world is None else world, _fill(t, version))[0]


def _fill(t: Task, version: int) -> Steps[Any]:
    yield from range_pin(t, 0, True)
    yield from write_held(t, version)
    yield from range_unpin(t, 0, True)
