"""A second tier behind a shared cache: the duties of `shared/duties.py`, two clients with a queue and a writer each, a
reader, the kernel that takes what is in memory, the deaths of a client and of the keeper; and who makes the value under
a lease, fails, and leaves that to another who waits.

One key. Changes are numbered in the order in which the keeper hears them, deletions too; a value is the number of the
change that stored it. Whoever reads gets nothing, or what is not older than the last change that had returned when he
began. The tier does what it is told, when it is told, by whomever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from . import acts
from .acts import Act, Model, do, newest, see

__all__ = ["MODEL", "Broken", "World"]

NOBODY = -1
B, A = 0, 1
"""Clients."""
MAKER, HEIR = 0, 1
"""Of whom one may have the lease."""


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
    lease: int = NOBODY
    stale: bool = False
    """The key was changed since it was given."""
    heir_waits: bool = False
    heir_told: bool = False
    """With the lease, that something is due."""
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
    heir_untold: bool = False
    """Who gets the lease of who failed is not told what is due."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


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
        world = world._replace(stale=world.lease != NOBODY)
        if what == "clear":
            return world._replace(due=0, all_due=number), number
        return world._replace(due=number), number

    if not (yield see("be there", lambda world: world.alive[who])):
        return
    number = yield Act(what, hear)
    item = Item(number, number if what == "set" else 0, what == "clear")
    yield do("queue it", lambda world: _queued(world, who, (*world.queues[who], item)))
    yield do(
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
    yield do("take it", lambda world: _queued(world, who, world.queues[who][1:]))
    if answer == "ok":
        yield do("write it", lambda world: _written(world, who, item))
        yield do("it is over", lambda world: _over(world, who, item, broken))


def _written(world: World, who: int, item: Item) -> World:
    return world._replace(behind=item.value) if world.alive[who] else world


# ---- who reads


def reader(broken: Broken) -> Steps:
    """A get. What it reads behind it stores in memory, if that is what the key has still."""
    begun = yield see("begin", lambda world: world.returned)
    value = yield see("look in memory", lambda world: world.memory)
    if not value:
        if not (yield Act("begin a reading", lambda world: _begin(world, broken))):
            return
        value = yield see("read behind", lambda world: world.behind)
        yield do("store it in memory", lambda world: _kept(world, value))
    if value and value < begun:
        yield acts.assign("return it", wrong=newest(value, begun))


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


# ---- who makes it


def fails(broken: Broken) -> Steps:
    """A maker that has the lease, and raises."""
    yield do("take the lease", lambda world: world._replace(lease=MAKER) if world.lease == NOBODY else world)
    yield do("fail", lambda world: _left(world, broken))


def _left(world: World, broken: Broken) -> World:
    if world.lease != MAKER:
        return world
    if not world.heir_waits or world.stale:
        return world._replace(lease=NOBODY)
    return _inherited(world, untold=broken.heir_untold)


def _inherited(world: World, untold: bool = False) -> World:
    return world._replace(lease=HEIR, stale=False, heir_told=bool(world.due or world.all_due) and not untold)


def heir(_broken: Broken) -> Steps:
    """Who finds no value, and perhaps another who has the lease: then it waits. What it finds behind it stores."""
    begun = yield see("begin", lambda world: world.returned)
    if (yield see("look in memory", lambda world: world.memory)):
        return
    yield do("ask for the lease", _asked)
    if not (yield see("it is ours, or stale", lambda world: world.lease == HEIR, _heard)):
        return
    if (yield see("what is due", lambda world: world.heir_told)):
        return
    value = yield see("read behind", lambda world: world.behind)
    yield do("store it under the lease", lambda world: world if world.stale else world._replace(memory=value))
    if value < begun:
        yield acts.assign("return it", wrong=newest(value, begun))


def _asked(world: World) -> World:
    waits = world.lease == MAKER and not world.stale
    return world._replace(heir_waits=True) if waits else _inherited(world)


def _heard(world: World) -> bool:
    return world.lease != MAKER or world.stale


# ---- who takes, and who is killed


def kernel(_broken: Broken) -> Steps:
    """What is in memory is taken."""
    yield do("take it", lambda world: world._replace(memory=0))


def kills_b(broken: Broken) -> Steps:
    """Client B is killed, at whatever it is."""

    def kill(world: World) -> World:
        world = world._replace(alive=(False, world.alive[A]), queues=((), world.queues[A]))
        return world._replace(due=0) if broken.duty_dies and world.owner == B else world

    yield do("kill B", kill)


def kills_keeper(broken: Broken) -> Steps:
    """The next one serves at once."""

    def kill(world: World) -> World:
        world = world._replace(memory=0, reading=False)
        if broken.unfiled:
            return world._replace(due=0, all_due=0, hand=NOBODY, in_hand=0, owner=NOBODY)
        return world._replace(hand=NOBODY, in_hand=0) if broken.hand_unfiled else world

    yield do("kill the keeper", kill)


_B: dict[str, Program] = {"B": sets(B), "B_writes": writer(B)}
_A: dict[str, Program] = {"A": deletes(A), "A_writes": writer(A)}
_AROUND: dict[str, Program] = {"kernel": kernel, "reader": reader}

MODEL = Model(
    World(),
    Broken,
    {
        "set and deleted": {**_B, **_A, **_AROUND},
        "set twice": {**_B, "A": sets(A), "A_writes": writer(A), **_AROUND},
        "a client is killed": {**_B, "killer": kills_b, "A_writes": writer(A), **_AROUND},
        "the keeper is killed": {**_B, **_A, "killer": kills_keeper, "reader": reader},
        "both are killed": {
            **_B,
            "killer": kills_b,
            "killer_too": kills_keeper,
            "A_writes": writer(A),
            "reader": reader,
        },
        "read and deleted": {**_A, "kernel": kernel, "reader": reads_twice},
        "a maker fails": {"B": sets(B), "kernel": kernel, "maker": fails, "heir": heir},
        "cleared": {**_B, "A": clears(A), "A_writes": writer(A), **_AROUND},
        "cleared and killed": {
            "B": clears(B),
            "B_writes": writer(B),
            "killer": kills_b,
            "A_writes": writer(A),
            **_AROUND,
        },
    },
)
