"""A second tier behind a cache: the queue of `cache/behind/pending.py`, its writer, readers, the kernel that takes
what is in memory, and a mapping that fails.

One key. A value is the number of the change that stored it; a change that deletes has a number, too. Whoever reads gets
nothing, or what is not older than the last change that had returned when he began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import acts
from .acts import Act, Model, do, newest, see

__all__ = ["MODEL", "Broken", "World"]

NOTHING, DELETE, CLEAR = -1, 0, -2
"""What may be due, beside the number of a value to be written."""


class World(NamedTuple):
    """All that is shared; 0 in a place where a value may be is none."""

    memory: int = 1
    behind: int = 1
    due: int = NOTHING
    hand: int = NOTHING
    clear: bool = False
    """The clearing of all is due."""
    doubted: bool = False
    """In a forked child: its parent had something due for the key."""
    stale: tuple[bool, ...] = ()
    """By reader, whose reading is under way."""
    reading: tuple[bool, ...] = ()
    returned: int = 1
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    deletes_at_once: bool = False
    """A deletion is made behind by whoever deletes, while a write waits."""
    hand_unseen: bool = False
    """A reader does not ask what is in hand."""
    hand_late: bool = False
    """What is taken out of the queue is in hand a moment later."""
    failure_forgotten: bool = False
    """A write that failed leaves what was there before."""
    load_unmarked: bool = False
    """A change does not tell those who are reading."""
    left_out: bool = False
    """What the queue has no room for is as if it had not been."""
    waits_midway: bool = False
    """A store waits for room when the value is in memory already."""
    child_believes: bool = False
    """A child believes what is behind of what its parent had due."""
    cleared_beside: bool = False
    """All is cleared while a write is in hand, not after it."""
    clear_unseen: bool = False
    """A reader does not ask whether a clearing is due."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


def _replaced(values: tuple[bool, ...], at: int, value: bool) -> tuple[bool, ...]:
    return (*values[:at], value, *values[at + 1 :])


# ---- who changes: each change is one step to all, under the cache's lock


def _noted(world: World, due: int, broken: Broken) -> World:
    stale = world.stale if broken.load_unmarked else tuple(True for _ in world.stale)
    return world._replace(due=due, doubted=False, stale=stale)


def _set(broken: Broken, number: int, full: bool = False, waits: bool = False) -> Steps:
    def change(world: World) -> World:
        world = world._replace(memory=number)
        if full and broken.left_out:
            return world
        return _noted(world, DELETE if full else number, broken)

    if waits and broken.waits_midway:
        yield do(f"store {number} in memory", lambda world: world._replace(memory=number))
        yield do("find room in the queue", lambda world: _noted(world, number, broken))
    else:
        if waits:
            yield see("wait for room in the queue", lambda _: None)
        yield do(f"store {number}", change)
    yield do("return", lambda world: world._replace(returned=number))


def _delete(broken: Broken, number: int) -> Steps:
    def change(world: World) -> World:
        if broken.deletes_at_once:
            return _noted(world, world.due, broken)._replace(memory=0, behind=0)
        return _noted(world._replace(memory=0), DELETE, broken)

    yield do("delete", change)
    yield do("return", lambda world: world._replace(returned=number))


def _clear(broken: Broken, number: int) -> Steps:
    def change(world: World) -> World:
        world = _noted(world._replace(memory=0), NOTHING, broken)
        return world._replace(behind=0) if broken.cleared_beside else world._replace(clear=True)

    yield do("clear", change)
    yield do("return", lambda world: world._replace(returned=number))


def sets_and_deletes(broken: Broken) -> Steps:
    """A value is stored, and soon deleted."""
    yield from _set(broken, 2)
    yield from _delete(broken, 3)


def sets_twice(broken: Broken) -> Steps:
    """A value is stored, and another."""
    yield from _set(broken, 2)
    yield from _set(broken, 3)


def sets_where_it_is_full(broken: Broken) -> Steps:
    """The queue has no room."""
    yield from _set(broken, 2, full=True)


def sets_when_there_is_room(broken: Broken) -> Steps:
    """The queue has no room at first."""
    yield from _set(broken, 2, waits=True)


def sets_and_clears(broken: Broken) -> Steps:
    """A value is stored, all is cleared, another is stored."""
    yield from _set(broken, 2)
    yield from _clear(broken, 3)
    yield from _set(broken, 4)


# ---- who writes


def _write(broken: Broken, fails: bool = False) -> Steps:
    def take(world: World) -> tuple[World, Any]:
        if world.clear:
            return world._replace(clear=False, hand=CLEAR), CLEAR
        hand = NOTHING if broken.hand_late else world.due
        return world._replace(due=NOTHING, hand=hand), world.due

    def write(world: World) -> World:
        return world._replace(behind=0 if what in (DELETE, CLEAR) else what)

    def over(world: World) -> World:
        world = world._replace(hand=NOTHING)
        if not fails or broken.failure_forgotten:
            return world
        if what == CLEAR:
            return world._replace(clear=True)
        return world if world.due != NOTHING or world.clear else world._replace(due=DELETE)

    what = yield Act("take what is due", take)
    if what == NOTHING:
        return
    if broken.hand_late:
        yield do("take it in hand", lambda world: world._replace(hand=what))
    if not fails:
        yield do("write it", write)
    yield do("it is over", over)


def writer(broken: Broken) -> Steps:
    """One at a time."""
    for _ in range(3):
        yield from _write(broken)


def failing(broken: Broken) -> Steps:
    """The first thing fails, what is due then does not."""
    yield from _write(broken, fails=True)
    yield from _write(broken)


# ---- who reads


def reader(broken: Broken, who: int = 0) -> Steps:
    """A get. What it reads behind it stores in memory, if that is what the key has still."""
    begun = yield see("begin", lambda world: world.returned)
    value = yield see("look in memory", lambda world: world.memory)
    if not value:
        value = yield Act("ask what is due", lambda world: _begin(world, who, broken))
        if value == NOTHING:
            value = yield see("read behind", lambda world: world.behind)
        yield do("store it in memory", lambda world: _end(world, who, value))
    if value and value < begun:
        yield acts.assign("return it", wrong=newest(value, begun))


def _begin(world: World, who: int, broken: Broken) -> tuple[World, int]:
    world = world._replace(
        reading=_replaced(world.reading, who, True), stale=_replaced(world.stale, who, False)
    )
    if world.due != NOTHING:
        return world, world.due
    if (world.clear and not broken.clear_unseen) or (world.doubted and not broken.child_believes):
        return world, DELETE
    if world.hand != NOTHING and not broken.hand_unseen:
        return world, max(world.hand, DELETE)
    return world, NOTHING


def _end(world: World, who: int, value: int) -> World:
    if value and not world.stale[who] and world.reading[who]:
        world = world._replace(memory=value)
    return world._replace(reading=_replaced(world.reading, who, False))


def reads_twice(broken: Broken) -> Steps:
    """One get after the other: what the first left in memory the second gets."""
    yield from reader(broken, 0)
    yield from reader(broken, 0)


def another(broken: Broken) -> Steps:
    """Another reader."""
    yield from reader(broken, 1)


def kernel(broken: Broken) -> Steps:
    """What is in memory is taken."""
    for _ in range(2):
        yield do("take it", lambda world: world._replace(memory=0))


def forks(broken: Broken) -> Steps:
    """The parent forks, and we are the child: memory is as it was, what was due is the parent's, and its writer goes
    on.
    """

    def fork(world: World) -> World:
        due = world.due != NOTHING or world.hand != NOTHING or world.clear
        # The parent's queue goes on being written, and nobody here sees it.
        return world._replace(doubted=due, hand=NOTHING, due=NOTHING, clear=False)

    yield from _set(broken, 2)
    yield do("fork", fork)
    yield from reader(broken, 0)


_AROUND: dict[str, Program] = {"kernel": kernel, "reader": reads_twice}

MODEL = Model(
    World(stale=(False, False), reading=(False, False)),
    Broken,
    {
        "set and deleted": {"changer": sets_and_deletes, "writer": writer, **_AROUND},
        "set twice": {"changer": sets_twice, "writer": writer, **_AROUND},
        "a write fails": {"changer": sets_twice, "writer": failing, **_AROUND},
        "a deletion fails": {"changer": sets_and_deletes, "writer": failing, **_AROUND},
        "no room": {"changer": sets_where_it_is_full, "writer": writer, **_AROUND},
        "waits for room": {"changer": sets_when_there_is_room, "writer": writer, **_AROUND},
        "cleared": {"changer": sets_and_clears, "writer": writer, **_AROUND},
        "two readers": {"changer": sets_and_deletes, "other": another, "writer": writer, **_AROUND},
        "a child": {"child": forks, "kernel": kernel},
    },
)
