"""One small program, run by the patched kernel of the model and by the library's model over a stock kernel.

A program is a word for each thread: ``U`` unmark (tells whether anything was purged), ``M`` mark, ``r0`` read page 0
and ``w0`` write it, both while unmarked, ``p0`` read it while it is volatile (a value, or SIGBUS), ``F`` fork. What a
program observes are the answers of its actions in order.

Played by: `U` the patch's call, or a write pin that accepts zeros; `M` the call, or the end of the pin; `p` a load, or
``read()``, which says of a lost page that it is lost instead of trapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from typing import Any

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.fork import fork as patched_fork
from mvolatile.model.litmus import mark, unmark
from mvolatile.model.mmap import do_mmap
from mvolatile.model.state import Config as Patched
from mvolatile.model.state import Kernel, kernel
from mvolatile.model.steps import Op, Steps, run
from mvolatile.model.stock import programs as library
from mvolatile.model.stock.forks import fork as library_fork
from mvolatile.model.stock.forks import in_child
from mvolatile.model.stock.kernel import load as stock_load
from mvolatile.model.stock.kernel import store as stock_store
from mvolatile.model.stock.kernel_fork import wait_to_be_born
from mvolatile.model.stock.loss import range_forgive
from mvolatile.model.stock.machine import CHILD, USERFAULTFD, Config, Task, machine
from mvolatile.model.stock.peek import LOST
from mvolatile.model.stock.ranges import range_unpin
from mvolatile.model.user import load, store
from mvolatile.model.vmscan import age_all_pages, reclaim

SIGBUS = "SIGBUS"
AGAIN = "again"
"""What the library says besides: a writer was there meanwhile, read again. The patch has no such answer."""

Answers = tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """`one` begins with volatile pages that all hold 1; `two` runs beside it and only peeks; `child` after an ``F``."""

    one: tuple[str, ...]
    two: tuple[str, ...] = ()
    child: tuple[str, ...] = ()
    pages: int = 1

    def __str__(self) -> str:
        parts = [" ".join(self.one), " ".join(self.two), " ".join(self.child)]
        return " | ".join(parts) + f" | {self.pages} pages"


WRITTEN = 7


# ---- the patched kernel


def _patched(k: Kernel, mm: int, actions: tuple[str, ...], owns: bool) -> Steps[Answers]:
    answers: Answers = ()
    for action in actions:
        answer: Any = None
        match action[0]:
            case "U":
                _, answer = yield from unmark(k, mm, 0, k.config.addresses)
                if owns:
                    yield from _own(k, mm)
            case "M":
                yield from mark(k, mm, 0, k.config.addresses)
            case "F":
                yield from patched_fork(k, 0, 1)
            case "w":
                yield from store(k, mm, int(action[1]), WRITTEN + mm)
            case _:
                answer = yield from load(k, mm, int(action[1]))
        answers = (*answers, answer)
        del answer
    return answers


def _own(k: Kernel, mm: int) -> Steps[None]:
    """The library's unmark makes shared pages the process' own, as a write does (MADV_POPULATE_WRITE)."""
    for address in range(k.config.addresses):
        value = yield from load(k, mm, address)
        yield from store(k, mm, address, int(value))
        del value


@cache
def _forked(k: Kernel) -> Op:
    vmas, sem = k.mmap(1), k.mmap_sem(0)
    return Op(
        "begin",
        lambda world: (world, None),
        reads=(vmas, sem),
        ready=lambda world: bool(world[vmas]) and world[sem] >= 0,
    )


def _patched_child(k: Kernel, actions: tuple[str, ...], owns: bool) -> Steps[Answers]:
    yield _forked(k)
    return (yield from _patched(k, 1, actions, owns))


def _patched_reclaim(k: Kernel, scans: int) -> Steps[None]:
    for _ in range(scans):
        yield age_all_pages(k)
        yield from reclaim(k)


def _patched_setup(k: Kernel, order: tuple[int, ...]) -> Steps[None]:
    yield from do_mmap(k, 0, 0, k.config.addresses)
    for address in order:
        yield from store(k, 0, address, 1)
    yield age_all_pages(k)
    yield from mark(k, 0, 0, k.config.addresses)


def patched(
    program: Program, order: tuple[int, ...], *, scans: int, owns: bool = False
) -> ThreadedSystem[Any]:
    """The program on the patched kernel, pages on the LRU in this order; `owns`: unmark writes to every page."""
    processes = 2 if program.child else 1
    k = kernel(
        "fixed",
        Patched(processes=processes, addresses=program.pages, frames=2 + processes * program.pages, slots=0),
    )
    world, _ = run(k.world, _patched_setup(k, order))
    threads: dict[str, Any] = {"one": partial(_patched, k, 0, program.one, owns)}
    if program.two:
        threads["two"] = partial(_patched, k, 0, program.two, owns)
    if program.child:
        threads["child"] = partial(_patched_child, k, program.child, owns)
    threads["kswapd"] = partial(_patched_reclaim, k, scans)
    return ThreadedSystem(world, threads, watches=frozenset())


# ---- the library over a stock kernel


def _library(t: Task, actions: tuple[str, ...]) -> Steps[Answers]:
    answers: Answers = ()
    for action in actions:
        answer: Any = None
        found: Any
        match action[0]:
            case "U":
                found = yield from library.settled_hold(t, True, None, keep=True)
                answer = int(found == LOST)
                if answer:
                    yield from range_forgive(t, 0, t.m.all_pages)
                del found
            case "M":
                yield from range_unpin(t, 0, True)
            case "F":
                yield from library_fork(t, None)
            case "w":
                yield stock_store(t, int(action[1]), WRITTEN + t.mm)
            case "r":
                answer = yield stock_load(t, int(action[1]))
            case _:
                found = yield from library.copy_out(t, 1 << int(action[1]), zeros=True)
                answer = (
                    {"EFAULT": SIGBUS, "EAGAIN": AGAIN}.get(found, found)
                    if isinstance(found, str)
                    else found[0]
                )
                del found
        answers = (*answers, answer)
        del answer
    return answers


def _library_child(t: Task, actions: tuple[str, ...]) -> Steps[Answers]:
    yield wait_to_be_born(t)
    yield from in_child(t)
    return (yield from _library(t, actions))


def over_stock(program: Program, tier: str, *, purges: int) -> ThreadedSystem[Any]:
    """The program over the library, on a stock kernel; "large" is the userfaultfd tier with a mapping of its own."""
    large, tier = tier == "large", USERFAULTFD if tier == "large" else tier
    config = Config(pages=program.pages, large=large, tier=tier, child_tier=tier if program.child else None)
    m = machine(config)
    threads: dict[str, Any] = {"one": partial(_library, Task(m, "one"), program.one)}
    if program.two:
        threads["two"] = partial(_library, Task(m, "two"), program.two)
    if program.child:
        threads["child"] = partial(_library_child, Task(m, "one", CHILD), program.child)
    daemons = {}
    for mm in range(2 if program.child else 1):
        for page in range(program.pages):
            daemons[f"reclaim{mm}{page}"] = partial(
                library.reclaim, Task(m, f"reclaim{mm}{page}", mm), page, purges
            )
    return ThreadedSystem(
        library.prepared(m), {**threads, **daemons}, daemons=tuple(daemons), watches=frozenset()
    )


# ---- what comes out


def observed(system: ThreadedSystem[Any], actors: tuple[str, ...], max_states: int) -> set[Answers]:
    """Every combination of answers, over all interleavings."""
    result = explore(system, max_states=max_states)
    assert result.complete, f"cut short at {result.states} states"
    assert not result.violations, str(result.violation)
    found = set()
    for state in result.finals:
        outcomes = system.outcomes(state)
        found.add(tuple(outcomes[actor] for actor in actors))
    return found


def actors(program: Program) -> tuple[str, ...]:
    """The threads that answer."""
    return ("one", *(("two",) if program.two else ()), *(("child",) if program.child else ()))


@cache
def by_the_patch(program: Program, scans: int, owns: bool, max_states: int) -> frozenset[Answers]:
    """What the patched kernel may answer, whichever page is older."""
    found: set[Answers] = set()
    for order in permutations(range(program.pages)):
        system = patched(program, order, scans=scans, owns=owns)
        found |= observed(system, actors(program), max_states)
    return frozenset(found)


def unexplained(
    program: Program,
    tier: str,
    *,
    scans: int,
    purges: int | None = None,
    owns: bool = False,
    max_states: int = 400_000,
) -> set[Answers]:
    """What the library may answer and the patched kernel never does, when it scans so often.

    `owns`: or than when unmark writes to every page, too. `purges` of each page on the stock kernel; as many as there
    are scans unless told. A program with but one outcome shows nothing, and fails.
    """
    system = over_stock(program, tier, purges=scans if purges is None else purges)
    answers = observed(system, actors(program), max_states)
    assert len(answers) > 1, "nothing is ever purged here"
    allowed = by_the_patch(program, scans, False, max_states)
    if owns:
        allowed |= by_the_patch(program, scans, True, max_states)
    return {answer for answer in answers if not explained(answer, allowed)}


def explained(answers: Answers, by: frozenset[Answers]) -> bool:
    """Is there an equal outcome, whatever it says where these say that one is to read again?"""
    flat = [answer for thread in answers for answer in thread]
    return answers in by or any(
        all(mine in (AGAIN, theirs) for mine, theirs in zip(flat, (a for t in other for a in t), strict=True))
        for other in by
    )


def words(length: int, volatile: bool = True) -> list[tuple[str, ...]]:
    """Every program of one thread over one page that keeps to the contract: reads and writes between U and M only."""
    if not length:
        return [()]
    choices = (("p0", True), ("U", False)) if volatile else (("r0", False), ("w0", False), ("M", True))
    return [(action, *rest) for action, then in choices for rest in words(length - 1, then)]
