"""The pressure listener over a stock kernel: `_core/protocol/listener.c`, `cache/pressure.py` and `cache/fork.py`.

One descriptor number stands for all of the program's table, one pipe for all that ends when its last descriptor does.
A poll that ends by its time limit is one that ends once there is something to see: so a search proves that who is to
end does, not how soon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import acts
from .acts import Act, Model, assign, do, see, wait

__all__ = ["MODEL", "Broken", "World"]


class World(NamedTuple):
    """All that is shared. Numbers are 0 or 1."""

    number: str = ""
    """What the program's table has at the one number: '', 'ours' or 'the program'."""
    pipe: int = 1
    """Whether the program has its end of a pipe open."""
    own: frozenset[str] = frozenset()
    """What is open in the watcher's own table."""
    pressure: int = 0
    """The kernel has pressure to report."""
    opened: int = 0
    pressed: int = 0
    ended: int = 0
    asleep: int = 0
    """Who waits for pressure sleeps on the word, which is `pressed` and `ended`."""
    lock: int = 0
    """A cache's."""
    waiter_gone: int = 0
    born: int = 0
    """A child was forked; `child_lock` is its copy of the lock, which its parent's threads cannot let go."""
    child_lock: int = 0
    touched: str = ""
    """What was done to a file of the program's."""
    python: str = ""
    """Who has Python's lock."""
    wanted: int = 0
    """The caches' thread waits for it."""
    working: int = 0
    """That thread is not in its wait."""
    forking: int = 0
    child_wanted: int = 0
    """A child's copy of `wanted`: it gives way to a thread that it has not."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    shared_table: bool = False
    """The sources are open in the program's table."""
    copied_table: bool = False
    """The watcher's table begins as a copy of the program's."""
    ended_by_number: bool = False
    """The watcher is woken through a descriptor in the program's table."""
    end_unseen: bool = False
    """The watcher polls for pressure alone."""
    woken_before_told: bool = False
    """The watcher wakes who sleeps and sets the bit then."""
    asleep_unlooked: bool = False
    """Falling asleep does not compare the word with what was seen."""
    finalizer_waits: bool = False
    """A finalizer waits for the thread to end."""
    child_sleeps: bool = False
    """A child waits for the parent's watcher."""
    child_keeps_lock: bool = False
    """A child that Python's hooks know nothing of takes a lock as it was copied."""
    fork_unquiet: bool = False
    """A fork does not wait for the caches' thread."""
    fork_holds_lock: bool = False
    """It waits with Python's lock in its hands."""
    told_unlooked: bool = False
    """Who is told does not look whether somebody forks."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


def _by_number(what: str) -> Act[World]:
    def use(world: World) -> tuple[World, Any]:
        return (world._replace(touched=what) if world.number == "the program" else world), None

    return Act(f"{what} by number", use)


def _first_table(world: World, broken: Broken) -> frozenset[str]:
    return frozenset({"pipe"}) if broken.copied_table and world.pipe else frozenset()


def watcher(broken: Broken) -> Steps:
    """`watch()`."""
    if broken.shared_table:
        yield assign("open the sources", number="ours", opened=1)
    else:
        yield do("a table of its own", lambda world: world._replace(own=_first_table(world, broken)))
        yield do("open the sources", lambda world: world._replace(own=world.own | {"source"}, opened=1))
    while True:
        yield wait("poll", lambda w: bool(w.pressure or (w.ended and not broken.end_unseen)))
        if (yield see("look at the word", lambda world: world.ended)):
            break
        if broken.shared_table:
            yield _by_number("read")
        yield assign("take the event", pressure=0)
        if broken.woken_before_told:
            yield assign("wake", asleep=0)
        yield assign("set the bit", pressed=1)
        if not broken.woken_before_told:
            yield assign("wake", asleep=0)
    if broken.shared_table:
        yield _by_number("close")
    yield assign("empty the table", own=frozenset())


def waiter(broken: Broken, once: bool = False) -> Steps:
    """`listener_wait()` in a loop, and the telling of a cache; `once`: until it is told."""
    while True:
        seen = yield see("look at the word", lambda world: (world.pressed, world.ended))
        if seen[1]:
            break
        if seen[0]:
            yield assign("take the bit", pressed=0)
            yield assign("take the cache's lock", lambda world: not world.lock, lock=1)
            yield assign("let go of it", lock=0)
            if once:
                break
            continue

        def fall_asleep(world: World, seen: Any = seen) -> tuple[World, Any]:
            same = broken.asleep_unlooked or seen == (world.pressed, world.ended)
            return world._replace(asleep=1 if same else 0), None

        yield Act("fall asleep", fall_asleep)
        yield wait("sleep", lambda world: not world.asleep)
    yield assign("end", waiter_gone=1)


def kernel(broken: Broken) -> Steps:
    """Pressure, once there is who is told."""
    yield assign("pressure", lambda world: bool(world.opened), pressure=1)


def program(broken: Broken) -> Steps:
    """Closes all descriptors, opens a file of its own, and reads what it wrote to the pipe until it ends."""
    yield assign("close all", lambda world: bool(world.opened), number="", pipe=0)
    yield assign("open a file", number="the program")
    yield wait("read to the end of the pipe", lambda w: not w.pipe and "pipe" not in w.own)


def closer(broken: Broken) -> Steps:
    """`ignore()` of the last cache, which waits."""
    yield from _end(broken)
    yield wait("join", lambda world: bool(world.waiter_gone))


def finalizer(broken: Broken) -> Steps:
    """The same in the middle of a change."""
    yield assign("take the cache's lock", lambda world: not world.lock, lock=1)
    yield from _end(broken)
    if broken.finalizer_waits:
        yield wait("join", lambda world: bool(world.waiter_gone))
    yield assign("let go of it", lock=0)


def _end(broken: Broken) -> Steps:
    yield assign("set the end", ended=1)
    if broken.ended_by_number:
        yield _by_number("write")
    yield assign("wake", asleep=0)


def child(broken: Broken) -> Steps:
    """Forked in C at any moment; it changes its cache, and asks the monitor that it has a copy of."""
    yield do("fork", lambda world: world._replace(born=1, child_lock=world.lock))
    if not broken.child_keeps_lock:
        yield assign("catch_up()", child_lock=0)
    yield assign("take its lock", lambda world: not world.child_lock, child_lock=1)
    yield assign("let go of it", child_lock=0)
    if broken.child_sleeps:
        yield wait("sleep", lambda world: False)


def told(broken: Broken) -> Steps:
    """`begin_work()`, what is done then, and `end_work()`, of the caches' thread."""
    while True:
        yield assign("work", working=1)
        if broken.told_unlooked or not (yield see("look who forks", lambda world: world.forking)):
            break
        yield assign("do not", working=0)
        yield wait("wait for the fork", lambda world: not world.forking)
    yield assign("want Python's lock", wanted=1)
    yield assign("take it", lambda world: not world.python, python="told", wanted=0)
    yield assign("let go of it", python="")
    yield assign("wait again", working=0)


def forker(broken: Broken) -> Steps:
    """`quiet()`, a fork in C by a thread that has Python's lock, and `loud()`."""
    yield assign("take Python's lock", lambda world: not world.python, python="forker")
    if not broken.fork_unquiet:
        yield assign("begin to fork", forking=1)
        if (yield see("look who works", lambda world: world.working)):
            if not broken.fork_holds_lock:
                yield assign("let go of Python's lock", python="")
            yield wait("wait for who works", lambda world: not world.working)
            if not broken.fork_holds_lock:
                yield assign("take it again", lambda world: not world.python, python="forker")
    yield do("fork", lambda world: world._replace(child_wanted=world.wanted))
    yield assign("have forked", forking=0)
    yield assign("let go of Python's lock", python="")


def check(world: World) -> str | None:
    """What must never be."""
    if world.child_wanted:
        return "no_phantom: the child gives way to a thread that it has not"
    return f"no_foreign_touch: {world.touched} of the program's file" if world.touched else None


MODEL = Model(
    World(),
    Broken,
    {
        "told": {"watcher": watcher, "waiter": lambda broken: waiter(broken, once=True), "kernel": kernel},
        "all closed": {
            "watcher": watcher,
            "waiter": waiter,
            "kernel": kernel,
            "program": program,
            "closer": closer,
        },
        "finalized": {"watcher": watcher, "waiter": waiter, "kernel": kernel, "finalizer": finalizer},
        "forked in C": {
            "watcher": watcher,
            "waiter": waiter,
            "kernel": kernel,
            "closer": closer,
            "child": child,
        },
        "forked in C beside who is told": {"told": told, "forker": forker},
    },
    check,
    daemons={"told": ("watcher",)},  # nobody ends it
)
