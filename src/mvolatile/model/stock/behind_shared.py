"""A second tier behind a shared cache: the duties of `shared/duties.py`, two clients with a queue and a writer each, a
reader, the kernel that takes what is in memory, and the deaths of a client and of the keeper.

One key. Changes are numbered in the order in which the keeper hears them, deletions too; a value is the number of the
change that stored it. Whoever reads gets nothing, or what is not older than the last change that had returned when he
began. The tier does what it is told, when it is told, by whomever.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

__all__ = ["Broken", "World", "check", "initial", "races", "switches"]

NOBODY = -1
B, A = 0, 1
"""Clients."""


class Item(NamedTuple):
    """What a client has to bring there. A clearing comes to the same thing there as a deletion."""

    number: int
    value: int
    clears: bool = False


class World(NamedTuple):
    """All that is shared; 0 in a place where a value or a number may be is none."""

    memory: int = 1
    behind: int = 1
    last: int = 1
    """Change that the keeper heard."""
    due: int = 0
    all_due: int = 0
    owner: int = NOBODY
    hand: int = NOBODY
    in_hand: int = 0
    queues: tuple[tuple[Item, ...], ...] = ((), ())
    alive: tuple[bool, ...] = (True, True)
    reading: bool = False
    """What is read may be stored."""
    returned: int = 1
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    turn_unasked: bool = False
    """What waits is written, whatever was changed since."""
    hand_unseen: bool = False
    """A turn is given while another is at the key."""
    duty_dies: bool = False
    """What a client had to do is forgotten when it ends."""
    unfiled: bool = False
    """The next keeper knows of no duties."""
    hand_unfiled: bool = False
    """The next keeper does not know who is at the key."""
    done_early: bool = False
    """A duty is done when its turn is given."""
    done_by_anybody: bool = False
    """Whoever has done something has done what is due."""
    behind_believed: bool = False
    """A reader does not ask what is due."""
    reading_kept: bool = False
    """A change does not tell those who are reading."""
    cleared_beside: bool = False
    """All is cleared while somebody is at the key."""


def switches() -> tuple[str, ...]:
    """The names of all deliberate faults."""
    return tuple(field.name for field in fields(Broken))


_ALL = frozenset(World._fields)


@dataclass(frozen=True, slots=True)
class Act:
    """One atomic step."""

    label: str
    change: Callable[[World], tuple[World, Any]]
    reads: frozenset[str] = _ALL
    writes: frozenset[str] = _ALL

    def ready(self, world: World) -> bool:
        """Always."""
        return True

    def perform(self, world: World) -> tuple[World, Any]:
        """The world after it, and its result."""
        return self.change(world)


Steps = Generator[Act, Any, None]


def _do(label: str, change: Callable[[World], World]) -> Act:
    return Act(label, lambda world: (change(world), None))


def _see(label: str, look: Callable[[World], Any]) -> Act:
    return Act(label, lambda world: (world, look(world)), writes=frozenset())


def _queued(world: World, who: int, items: tuple[Item, ...]) -> World:
    queues = list(world.queues)
    queues[who] = items if world.alive[who] else ()
    return world._replace(queues=tuple(queues))


# ---- who changes


def _change(broken: Broken, who: int, what: str) -> Steps:
    def hear(world: World) -> tuple[World, int]:
        number = world.last + 1
        world = world._replace(last=number, memory=number if what == "set" else 0, owner=who)
        if not broken.reading_kept:
            world = world._replace(reading=False)
        if what == "clear":
            return world._replace(due=0, all_due=number), number
        return world._replace(due=number), number

    if not (yield _see("be there", lambda world: world.alive[who])):
        return
    number = yield Act(what, hear)
    item = Item(number, number if what == "set" else 0, what == "clear")
    yield _do("queue it", lambda world: _queued(world, who, (*world.queues[who], item)))
    yield _do(
        "return",
        lambda world: world._replace(returned=max(world.returned, number)) if world.alive[who] else world,
    )


def sets(who: int) -> Program:
    """A value is stored."""
    return lambda broken: _change(broken, who, "set")


def deletes(who: int) -> Program:
    """It is deleted."""
    return lambda broken: _change(broken, who, "delete")


def clears(who: int) -> Program:
    """All is."""
    return lambda broken: _change(broken, who, "clear")


# ---- who writes there


def _take(world: World, who: int, item: Item, broken: Broken) -> tuple[World, str]:
    """What the keeper answers who asks for its turn."""
    if broken.turn_unasked:
        return world, "ok"
    if item.number != (world.all_due if item.clears else world.due):
        return world, "stale"
    busy = world.hand != NOBODY and world.alive[world.hand] and not broken.hand_unseen
    if item.clears:
        busy = busy and not broken.cleared_beside
    elif world.all_due:
        busy = True
    if busy:
        return world, "busy"
    world = world._replace(hand=who, in_hand=item.number)
    return (_finished(world, item, broken) if broken.done_early else world), "ok"


def _finished(world: World, item: Item, broken: Broken) -> World:
    if item.clears:
        return world._replace(all_due=0) if world.all_due == item.number else world
    if world.due == item.number or broken.done_by_anybody:
        return world._replace(due=0)
    return world


def _over(world: World, who: int, item: Item, broken: Broken) -> World:
    if not world.alive[who]:
        return world
    world = _finished(world, item, broken)
    return world._replace(hand=NOBODY, in_hand=0) if world.in_hand == item.number else world


def writer(who: int, times: int = 1) -> Program:
    """Those of a client, one after the other; what has not its turn stays where it is. What is nobody's it adopts."""

    def adopt(world: World) -> tuple[World, Item | None]:
        if not world.queues[who] and world.owner != NOBODY and not world.alive[world.owner]:
            number, clears_all = (world.all_due, True) if world.all_due else (world.due, False)
            if number and world.alive[who]:
                world = world._replace(owner=who)
                world = _queued(world, who, (Item(number, 0, clears_all),))
        return world, next(iter(world.queues[who]), None)

    def steps(broken: Broken) -> Steps:
        for _ in range(times):
            item = yield Act("look what waits", adopt)
            if item is not None:
                yield from _bring(broken, who, item)

    return steps


def _bring(broken: Broken, who: int, item: Item) -> Steps:
    answer = yield Act(f"ask for {item.number}", lambda world: _take(world, who, item, broken))
    if answer == "busy":
        return
    yield _do("take it", lambda world: _queued(world, who, world.queues[who][1:]))
    if answer == "ok":
        yield _do("write it", lambda world: _written(world, who, item))
        yield _do("it is over", lambda world: _over(world, who, item, broken))


def _written(world: World, who: int, item: Item) -> World:
    return world._replace(behind=item.value) if world.alive[who] else world


# ---- who reads


def reader(broken: Broken) -> Steps:
    """A get. What it reads behind it stores in memory, if that is what the key has still."""
    begun = yield _see("begin", lambda world: world.returned)
    value = yield _see("look in memory", lambda world: world.memory)
    if not value:
        if not (yield Act("begin a reading", lambda world: _begin(world, broken))):
            return
        value = yield _see("read behind", lambda world: world.behind)
        yield _do("store it in memory", lambda world: _kept(world, value))
    if value and value < begun:
        yield _do("return it", lambda world: world._replace(wrong=f"newest: {value}, and {begun} was there"))


def _begin(world: World, broken: Broken) -> tuple[World, bool]:
    if (world.due or world.all_due) and not broken.behind_believed:
        return world, False
    return world._replace(reading=True), True


def _kept(world: World, value: int) -> World:
    if value and world.reading and not world.memory:
        world = world._replace(memory=value)
    return world._replace(reading=False)


def reads_twice(broken: Broken) -> Steps:
    """What the first get left in memory the second gets."""
    yield from reader(broken)
    yield from reader(broken)


# ---- who takes, and who is killed


def kernel(_broken: Broken) -> Steps:
    """What is in memory is taken."""
    yield _do("take it", lambda world: world._replace(memory=0))


def kills_b(broken: Broken) -> Steps:
    """Client B is killed, at whatever it is."""

    def kill(world: World) -> World:
        world = world._replace(alive=(False, world.alive[A]), queues=((), world.queues[A]))
        return world._replace(due=0) if broken.duty_dies and world.owner == B else world

    yield _do("kill B", kill)


def kills_keeper(broken: Broken) -> Steps:
    """The next one serves at once."""

    def kill(world: World) -> World:
        world = world._replace(memory=0, reading=False)
        if broken.unfiled:
            return world._replace(due=0, all_due=0, hand=NOBODY, in_hand=0, owner=NOBODY)
        return world._replace(hand=NOBODY, in_hand=0) if broken.hand_unfiled else world

    yield _do("kill the keeper", kill)


Program = Callable[[Broken], Steps]


def races() -> Mapping[str, Mapping[str, Program]]:
    """Programs by race."""
    b: dict[str, Program] = {"B": sets(B), "B_writes": writer(B)}
    a: dict[str, Program] = {"A": deletes(A), "A_writes": writer(A)}
    around: dict[str, Program] = {"kernel": kernel, "reader": reader}
    return {
        "set and deleted": {**b, **a, **around},
        "set twice": {**b, "A": sets(A), "A_writes": writer(A), **around},
        "a client is killed": {**b, "killer": kills_b, "A_writes": writer(A), **around},
        "the keeper is killed": {**b, **a, "killer": kills_keeper, "reader": reader},
        "both are killed": {
            **b,
            "killer": kills_b,
            "killer_too": kills_keeper,
            "A_writes": writer(A),
            "reader": reader,
        },
        "read and deleted": {**a, "kernel": kernel, "reader": reads_twice},
        "cleared": {**b, "A": clears(A), "A_writes": writer(A), **around},
        "cleared and killed": {
            "B": clears(B),
            "B_writes": writer(B),
            "killer": kills_b,
            "A_writes": writer(A),
            **around,
        },
    }


def initial() -> World:
    """Nothing is due."""
    return World()


def check(world: World) -> str | None:
    """What must never be."""
    return world.wrong or None
