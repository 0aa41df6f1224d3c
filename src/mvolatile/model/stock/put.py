"""A plain store in one call (`_core/cache/put.c`), beside changes that seal its segment, a maker of the same value, who
reads, and a fork.

One key. A value is the number of the store that brought it; a made value is as new as what had been stored when its
making began. Segments have numbers; what is sealed is volatile, and a child has none of its parent's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from . import acts
from .acts import Act, Model, assign, do, newest, see

__all__ = ["MODEL", "Broken", "World"]


class World(NamedTuple):
    """All that is shared; 0 in a place where a segment or a value may be is none."""

    owner: str = ""
    """Who has the cache's lock."""
    torn: bool = False
    armed: int = 1
    """The segment that plain stores are told of."""
    full: int = 1
    """Where the cache is full, in its place: what was open then. A store makes room first, and asks anew."""
    open: int = 1
    """The one that is held, and may be written to."""
    value: int = 1
    call: bool = False
    stale: bool = False
    """Of the making that is under way."""
    forks: int = 0
    known: int = 0
    """The forks that the cache has caught up with."""
    stored: int = 1
    """The last number that was: what is made now is as new."""
    returned: int = 1
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    lock_unasked: bool = False
    """A plain store takes no lock."""
    seen_before: bool = False
    """It believes what it saw before it had the lock."""
    left_armed: bool = False
    """A change does not disarm."""
    calls_unasked: bool = False
    """It does not ask whether somebody makes the value."""
    stale_unasked: bool = False
    """What was made is stored, whatever became of its key."""
    forks_unasked: bool = False
    """A child stores before it has caught up."""
    full_asked_before: bool = False
    """A store in a full cache goes on in the segment that was open before it made room."""
    full_as_others: bool = False
    """What is made while others go is not said to be a change under way."""


LARGE = 3

Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


# ---- a store


def _put(broken: Broken, who: str, number: int, call: bool = False) -> Generator[Act[World], Any, bool]:
    """`put_bytes`; False where the long way is to be gone."""
    seen = yield see("is it armed", lambda world: (world.armed, world.forks == world.known))
    if not seen[0] or not (seen[1] or broken.forks_unasked):
        return False
    if not broken.lock_unasked:
        taken = yield Act("try the lock", lambda world: _tried(world, who))
        if not taken:
            return False
    table = yield Act("is all as usual", lambda world: _usual(world, broken, seen[0], call))
    if table:
        yield do("copy it into the segment", lambda world: _written(world, table))
        yield do("publish it", lambda world: world._replace(value=number, stored=max(number, world.stored)))
        yield do("it is whole", lambda world: world._replace(torn=False))
    if not broken.lock_unasked:
        yield do("unlock", lambda world: world._replace(owner=""))
    return bool(table)


def _put_full(broken: Broken, who: str, number: int) -> Generator[Act[World], Any, bool]:
    """`put_bytes` where others go first, in Python and under the lock: what stays of them is moved, and may fill the
    open segment. A finalizer of what goes may store in our middle, in our thread, and so has the lock. The second value
    is large, and finds no memory to be copied into at once: room is made for it, and it goes the long way.
    """
    seen = yield see("is it armed", lambda world: (world.full, world.forks == world.known))
    if not seen[0] or not seen[1]:
        return False
    taken = yield Act("try the lock", lambda world: _tried(world, who))
    if not taken:
        return False
    usual = yield Act("is all as usual", lambda world: _usual_where_full(world, broken))
    if usual:
        yield do("make room: what stays fills the segment", lambda world: world._replace(open=4, value=0))
        table = seen[0] if broken.full_asked_before else (yield see("what is open", lambda world: world.open))
        alone = yield see("a finalizer stores: is a change under way", lambda world: world.torn)
        if not alone:
            yield do("its store fills the segment", lambda world: world._replace(open=5))
        if number == LARGE:
            usual = False
        else:
            yield do("copy it into the segment", lambda world: _written(world, table))
            yield do(
                "publish it", lambda world: world._replace(value=number, stored=max(number, world.stored))
            )
        yield do("it is whole", lambda world: world._replace(torn=False))
    yield do("unlock", lambda world: world._replace(owner=""))
    return bool(usual)


def _usual_where_full(world: World, broken: Broken) -> tuple[World, bool]:
    if world.torn or not world.full or world.call or world.forks != world.known:
        return world, False
    return world._replace(torn=not broken.full_as_others), True


def _tried(world: World, who: str) -> tuple[World, bool]:
    return (world, False) if world.owner else (world._replace(owner=who), True)


def _usual(world: World, broken: Broken, seen: int, call: bool) -> tuple[World, int]:
    armed = seen if broken.seen_before else world.armed
    current = (not world.stale or broken.stale_unasked) if call else (not world.call or broken.calls_unasked)
    there = world.forks == world.known or broken.forks_unasked
    if world.torn or not armed or not current or not there:
        return world, 0
    return world._replace(torn=True), armed


def _written(world: World, table: int) -> World:
    if world.forks != world.known:
        return world._replace(wrong="own: written to a segment of the parent's")
    if table != world.open:
        return world._replace(wrong="held: written to what the kernel may take")
    return world


def _begin(world: World, who: str, broken: Broken) -> World:
    """Every change: a child catches up first, and nobody is told of a segment meanwhile."""
    if world.forks != world.known:  # nothing that the parent had is ours, nor its lock
        world = world._replace(known=world.forks, armed=0, open=0, value=0, call=False, stale=False)
    return world._replace(owner=who, torn=True, armed=world.armed if broken.left_armed else 0, full=0)


def _free(world: World) -> bool:
    return not world.owner or world.forks != world.known


def _long(broken: Broken, who: str, number: int, call: bool = False) -> Steps:
    """`store_carefully`, and `store_made`."""
    yield do("begin the change", lambda world: _begin(world, who, broken), _free)

    def store(world: World) -> World:
        if call and world.stale and not broken.stale_unasked:
            return world
        opened = world.open or 3
        stale, stored = world.stale or (world.call and not call), max(number, world.stored)
        return world._replace(open=opened, value=number, stale=stale, stored=stored)

    yield do("store it", store)
    yield do("arm", lambda world: world._replace(armed=world.open, full=world.open, torn=False))
    yield do("unlock", lambda world: world._replace(owner=""))


def _set(broken: Broken, number: int) -> Steps:
    plain = yield from _put(broken, "setter", number)
    if not plain:
        yield from _long(broken, "setter", number)
    yield do("return", lambda world: world._replace(returned=number))


def sets_twice(broken: Broken) -> Steps:
    """A value is stored, and another."""
    yield from _set(broken, 2)
    yield from _set(broken, 3)


def sets_twice_where_full(broken: Broken) -> Steps:
    """The same, in a full cache."""
    for number in (2, LARGE):
        plain = yield from _put_full(broken, "setter", number)
        if not plain:
            yield from _long(broken, "setter", number)
        yield do("return", lambda world, number=number: world._replace(returned=number))  # type: ignore[misc]


# ---- who is beside


def seals(broken: Broken) -> Steps:
    """A change that seals the segment, and opens none; and one that opens the next, and gives up the value."""
    yield do("begin the change", lambda world: _begin(world, "other", broken), _free)
    yield do("seal", lambda world: world._replace(open=0))
    yield do("it is whole", lambda world: world._replace(torn=False))
    yield do("unlock", lambda world: world._replace(owner=""))
    yield do("begin the change", lambda world: _begin(world, "other", broken), _free)
    yield do("evict, and open the next", lambda world: world._replace(open=2, value=0))
    yield do("arm", lambda world: world._replace(armed=2, full=2, torn=False))
    yield do("unlock", lambda world: world._replace(owner=""))


def makes(broken: Broken) -> Steps:
    """`get_or_set`: where there is no value one is made, and stored if its key was not."""

    def begin(world: World) -> tuple[World, int]:
        if world.value:
            return world, 0
        return world._replace(call=True, stale=False), world.stored

    number = yield Act("look, or begin to make it", begin, _free)
    if not number:
        return
    yield do("it is made", lambda world: world)
    plain = yield from _put(broken, "maker", number, call=True)
    if not plain:
        yield from _long(broken, "maker", number, call=True)
    yield do("the call is over", lambda world: world._replace(call=False), _free)


def takes(broken: Broken) -> Steps:
    """The kernel takes what is sealed; here, the value goes for whatever reason."""
    yield do("take it", lambda world: world._replace(value=0))


def reads(broken: Broken) -> Steps:
    """A get: nothing, or what is not older than the last store that had returned when it began."""
    for _ in range(2):
        begun = yield see("begin", lambda world: world.returned)
        value = yield see("read", lambda world: world.value)
        if value and value < begun:
            yield assign("return it", wrong=newest(value, begun))


def forks(broken: Broken) -> Steps:
    """The setter forks, whatever others are in the middle of; we are the child, which has none of them."""
    yield do("fork", lambda world: world._replace(forks=1))
    yield from _set(broken, 2)


def _in_the_parent(act: Act[World], world: World) -> bool:
    return not world.forks and act.ready(world)


def left_behind(broken: Broken) -> Steps:
    """A thread of the parent's, which stops where it is."""
    for act in seals(broken):
        yield Act(act.label, act.perform, partial(_in_the_parent, act))


MODEL = Model(
    World(),
    Broken,
    {
        "sealed": {"setter": sets_twice, "other": seals, "reader": reads},
        "made": {"setter": sets_twice, "maker": makes, "kernel": takes, "reader": reads},
        "full": {"setter": sets_twice_where_full, "other": seals, "reader": reads},
        "a child": {"child": forks, "left": left_behind},
    },
    daemons={"a child": ("left",)},
)
