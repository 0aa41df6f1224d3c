"""What a deletion in a shared cache has to reach: a value that is being made, one that has expired and is still given
(`stale`), one that has a tag; and threads that wait, in another process, for what was begun before.

One key. The program's data have a number, which counts up; who deletes does so after the data have changed, as
programs do. A value is the number of the data that it was made of. Whoever asks gets nothing that is older than the
last deletion that had returned when he asked. `shared/storage.py`, `leases.py`, `lease.py` and `singleflight.py` do so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from . import acts
from .acts import Act, Model, do, newest, see, wait

__all__ = ["MODEL", "Broken", "World"]


class World(NamedTuple):
    """All that is shared; 0 in a place where a value may be is none."""

    data: int = 1
    deleted: int = 0
    """The data's number when the last deletion returned."""
    memory: int = 1
    expired: bool = False
    tagged: bool = True
    """As the keeper knows it."""
    lease: bool = False
    """Somebody makes the value under one."""
    lease_stale: bool = False
    call: int = 0
    """In the process of maker and joiner: 1 while who asks joins those who wait for it, 2 while they wait and nobody
    joins them, 3 once it is over.
    """
    layout: int = 0
    """What the maker left for those who wait for it."""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    late_kept: bool = False
    """A deletion finds nothing where a value has expired, and leaves it."""
    lease_untagged: bool = False
    """What is being made with a tag is stored, though that was deleted."""
    lease_kept: bool = False
    """So is what is being made, though its key was deleted."""
    tag_noted_late: bool = False
    """A store is answered before the keeper has noted its tag."""
    layout_left: bool = False
    """Those who wait are given what was made under a stale lease."""
    joined_to_the_end: bool = False
    """Who asks joins them until they are told, and the lease has ended by then."""
    refresh_unleased: bool = False
    """What a refresh makes is stored whatever was changed since."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


def _returns(value: int, begun: int) -> Act[World]:
    def judge(world: World) -> World:
        return world._replace(wrong=newest(value, begun)) if value < begun else world

    return do("return it", judge)


# ---- who deletes: another process


def _deletion(broken: Broken, by_tag: bool) -> Steps:
    def hear(world: World) -> World:
        kept = broken.lease_untagged if by_tag else broken.lease_kept
        if world.lease and not kept:
            world = world._replace(lease_stale=True)
        reached = not (world.expired and broken.late_kept) and (world.tagged or not by_tag)
        return world._replace(memory=0, tagged=False) if reached else world

    number = yield Act("change the data", lambda world: (world._replace(data=world.data + 1), world.data + 1))
    yield do("delete", hear)
    yield do("return", lambda world: world._replace(deleted=number))


def deletes(broken: Broken) -> Steps:
    """The key."""
    yield from _deletion(broken, by_tag=False)


def deletes_its_tag(broken: Broken) -> Steps:
    """All that has it."""
    yield from _deletion(broken, by_tag=True)


# ---- who makes, and who waits in the same process


def _make(broken: Broken, stores: bool = True, whatever: bool = False) -> Steps:
    """Under a lease. It is stored; or it is not to be, and left for those who wait."""
    begun = yield see("ask", lambda world: world.deleted)
    yield do("have a lease", lambda world: world._replace(lease=True, lease_stale=False, call=1))
    made = yield see("read the data", lambda world: world.data)

    def end(world: World) -> tuple[World, bool]:
        stale = world.lease_stale
        world = world._replace(lease=False, lease_stale=False)
        if not stores or (stale and not whatever):
            return world, stale
        return world._replace(memory=made, expired=False, tagged=not broken.tag_noted_late), stale

    if not broken.joined_to_the_end:
        yield do("have nobody join", lambda world: world._replace(call=2))
    stale = yield Act("store it, or say that it is not to be", end)
    if broken.tag_noted_late:
        yield do("have its tag noted", lambda world: world._replace(tagged=bool(world.memory)))
    left = made if broken.layout_left or not (stale or stores) else 0
    yield do("tell who waits", lambda world: world._replace(call=3, layout=left))
    yield _returns(made, begun)


def makes(broken: Broken) -> Steps:
    """What is not there."""
    yield from _make(broken)


def makes_in_vain(broken: Broken) -> Steps:
    """What is not to be stored."""
    yield from _make(broken, stores=False)


def refreshes(broken: Broken) -> Steps:
    """What has expired: who asked has it already."""
    yield from _make(broken, whatever=broken.refresh_unleased)


def joins(broken: Broken) -> Steps:
    """A thread of the maker's process, whose process hears nothing of deletions elsewhere."""
    begun = yield see("ask", lambda world: world.deleted)
    value = yield see("look in memory", lambda world: 0 if world.expired else world.memory)
    if not value and (yield see("look who makes it here", lambda world: world.call == 1)):
        yield wait("wait", lambda world: world.call == 3)
        value = yield see("look in memory again", lambda world: 0 if world.expired else world.memory)
        value = value or (yield see("look what was left", lambda world: world.layout))
    if value:
        yield _returns(value, begun)


def asks_late(broken: Broken) -> Steps:
    """A process that takes what has expired."""
    for _ in range(2):
        begun = yield see("ask", lambda world: world.deleted)
        value = yield see("look in memory, also for what has expired", lambda world: world.memory)
        if value:
            yield _returns(value, begun)


def expires(broken: Broken) -> Steps:
    """Time passes."""
    yield do("expire", lambda world: world._replace(expired=True))


MODEL = Model(
    World(),
    Broken,
    {
        "expired and deleted": {"deleter": deletes, "time": expires, "reader": asks_late},
        "expired, and its tag deleted": {"deleter": deletes_its_tag, "time": expires, "reader": asks_late},
        "refreshed and deleted": {
            "deleter": deletes,
            "time": expires,
            "refresher": refreshes,
            "reader": asks_late,
        },
        "made and deleted": {"deleter": deletes, "maker": makes, "joiner": joins, "reader": asks_late},
        "made, and its tag deleted": {
            "deleter": deletes_its_tag,
            "maker": makes,
            "joiner": joins,
            "reader": asks_late,
        },
        "made in vain": {"deleter": deletes, "maker": makes_in_vain, "joiner": joins},
        "made in vain with a tag": {"deleter": deletes_its_tag, "maker": makes_in_vain, "joiner": joins},
    },
)
