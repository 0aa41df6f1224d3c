"""The shared cache over a stock kernel: a reader of `slots.c` beside the keeper of `shared/answers.py`, the kernel that
purges, and deaths.

One key. A value is its version, and a record two pages, each of which says whose it is: a copy that is believed must be
of one version throughout, and not older than what had been stored when the read began. A page is copied in one step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from . import acts
from .acts import Act, Model, assign, newest, see, wait

__all__ = ["MODEL", "Broken", "World"]

GONE, ZEROS, FOREIGN = -1, 0, -2
"""A page that faults; one that reads as zeros; one of a process that has the keeper's number, or of its other data."""


class World(NamedTuple):
    """All that is shared."""

    version: int = 2
    address: int = 0
    """Of the record that the slot tells of: the first of its pages."""
    length: int = 2
    """As the slot tells it: each version has another."""
    moved: int = 0
    pages: tuple[int, ...] = (2, 2, FOREIGN, FOREIGN)
    returned: int = 2
    """The newest version of which a store has returned to its client."""
    lives: int = 1
    """Whose memory the keeper's number reads: 0 nobody's, 1 its own, 2 another process's."""
    locked: int = 1
    """The keeper has its lock."""
    queue: tuple[int, ...] = ()
    """The connections that the keeper is to hear, in the order in which it is told of them."""
    sent: tuple[int, int] = (0, 0)
    """What was sent over each of two, and not heard yet."""
    over: int = 0
    """Nothing more will be sent."""
    attached: int = 0
    """The table that all threads of a client look in is the next keeper's."""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    reused_first: bool = False
    """The keeper writes to the old record's memory before the version has moved."""
    words_unannounced: bool = False
    """The version is not odd while the slot's other words change."""
    version_unchecked: bool = False
    """The reader does not look at the version after its copy."""
    answered_early: bool = False
    """The store returns before the slot tells of it."""
    first_page_alone: bool = False
    """Where purged pages read as zeros, only the first page of a record proves itself."""
    keeper_touches: bool = False
    """The keeper peeks at its volatile records, and fills what was purged."""
    moved_late: bool = False
    """The old table says that it has moved after something has changed that only the new one tells."""
    moved_unseen: bool = False
    """The reader looks whether the table has moved at its beginning alone."""
    stamp_unchecked: bool = False
    """The reader does not compare the stamp."""
    unlocked_first: bool = False
    """A new keeper may begin before the old one's memory is gone."""
    place_kept: bool = False
    """Who was heard keeps a place in the queue, as `epoll` has it without EPOLLONESHOT."""
    dead_table_believed: bool = False
    """A key that a table has not is a miss, be its keeper dead."""
    versions_anew: bool = False
    """Each keeper begins its versions at the same number."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


def _write(page: int, what: int) -> Act[World]:
    def change(world: World) -> tuple[World, Any]:
        if world.lives != 1:
            return world, None
        return world._replace(pages=(*world.pages[:page], what, *world.pages[page + 1 :])), None

    return Act(f"write {what} to page {page}", change)


def reader(broken: Broken, stamped: bool = False) -> Steps:
    """`read_value()`; what is not believed is a miss, or is tried again, which is a read of its own."""
    begun = yield see("begin", lambda world: world.returned)
    if (yield see("look whether the table has moved", lambda world: world.moved)):
        return
    version = yield see("look at the version", lambda world: world.version)
    if version % 2 or not version:
        return
    address = yield see("look at the address", lambda world: world.address)
    length = yield see("look at the length", lambda world: world.length)
    # slots_find() looks at the version here, too: no length is allocated that no record had. It decides nothing.
    whose = yield see("find the process", lambda world: world.lives)
    copied = []
    for page in (address, address + 1):
        copy = partial(_seen, page=page, whose=whose)
        copied.append((yield see(f"copy page {page}", copy)))
    if GONE in copied or not whose:
        return
    proofs = copied if stamped and not broken.first_page_alone else copied[:1]
    if not broken.stamp_unchecked and any(proof != version for proof in proofs):
        return
    if (
        not broken.version_unchecked
        and (yield see("look at the version", lambda world: world.version)) != version
    ):
        return
    if not broken.moved_unseen and (yield see("look whether it has moved", lambda world: world.moved)):
        return
    if set(copied) != {copied[0]} or copied[0] <= 0:
        yield assign("believe what is none", wrong=f"whole: {copied} for version {version}")
    elif length != copied[0]:
        yield assign("believe what is cut", wrong=f"whole: {copied[0]} with the length of {length}")
    elif copied[0] < begun:
        yield assign("believe what is old", wrong=newest(copied[0], begun))


def _seen(world: World, page: int, whose: int) -> int:
    """One call copies from one process: a dead one's memory is gone, and not another's."""
    if world.lives != whose:
        return GONE
    return world.pages[page] if whose == 1 else FOREIGN


def _store(broken: Broken, version: int, address: int) -> Steps:
    """`put()`: the record, the slot, the answer."""
    if broken.answered_early:
        yield assign("answer", returned=version)
    yield _write(address, version)
    yield _write(address + 1, version)
    if not broken.words_unannounced:
        yield assign("make the version odd", version=version | 1)
    yield assign("write the address", address=address)
    yield assign("write the length", length=version)
    yield assign("write the version", version=version)
    yield assign("answer", returned=version)


def overwriter(broken: Broken) -> Steps:
    """Two stores, the second of which takes the memory that the first left."""
    yield from _store(broken, 4, 0 if broken.reused_first else 2)
    yield from _store(broken, 6, 0)


def mover(broken: Broken) -> Steps:
    """The table moves; then the newer one tells of another record, and the old one's memory is used anew."""
    if not broken.moved_late:
        yield assign("say that it has moved", moved=1)
    yield _write(2, 4)
    yield _write(3, 4)
    yield assign("answer", returned=4)
    if broken.moved_late:
        yield assign("say that it has moved", moved=1)
    yield _write(0, FOREIGN)
    yield _write(1, FOREIGN)


def purger(broken: Broken, left: int = GONE) -> Steps:
    """The kernel takes the pages, one after the other."""
    yield _write(1, left)
    yield _write(0, left)


def huge_purger(broken: Broken) -> Steps:
    """The kernel takes a huge page: all that lies on it in one step, of whatever record."""
    yield assign("take the huge page", pages=(GONE,) * 4)


def giver_up(broken: Broken) -> Steps:
    """A client stores over one connection, gives up its next store over another, and stores over the first again."""
    yield _send(0, 4)
    yield assign("have the answer", lambda world: world.returned == 4)
    yield _send(1, 6)
    yield _send(0, 8)
    yield assign("have the answer", lambda world: world.returned == 8, over=1)


def _send(line: int, version: int) -> Act[World]:
    def change(world: World) -> tuple[World, Any]:
        sent = (version, world.sent[1]) if not line else (world.sent[0], version)
        queue = world.queue if line in world.queue else (*world.queue, line)
        return world._replace(sent=sent, queue=queue), None

    return Act(f"send {version} over connection {line}", change)


def hearer(broken: Broken) -> Steps:
    """The keeper's loop: whoever is first in the queue is heard once."""

    def hear(world: World) -> tuple[World, Any]:
        if not world.queue:
            return world, None
        line, *queue = world.queue
        heard = world.sent[line]
        if heard and broken.place_kept:
            queue.append(line)
        sent = (0, world.sent[1]) if not line else (world.sent[0], 0)
        return world._replace(queue=tuple(queue), sent=sent), heard

    free = 2
    while (version := (yield Act("hear", hear, lambda world: bool(world.queue or world.over)))) is not None:
        if version:
            yield from _store(broken, version, free)
            free = 2 - free


def toucher(broken: Broken) -> Steps:
    """The keeper carries a record forward, or looks whether it is there: by a copy, which fills nothing."""
    if broken.keeper_touches:
        for page in (0, 1):

            def fill(world: World, page: int = page) -> tuple[World, Any]:
                now = tuple(ZEROS if i == page and one == GONE else one for i, one in enumerate(world.pages))
                return world._replace(pages=now), None

            yield Act(f"peek at page {page}", fill)


def killer(broken: Broken) -> Steps:
    """The keeper dies, its memory goes before its lock does, and another process has its number then."""
    if broken.unlocked_first:
        yield assign("let the lock go", locked=0)
    yield assign("the memory goes", lives=0)
    yield assign("let the lock go", locked=0)
    yield assign("another process of that number", lives=2)


def successor(broken: Broken) -> Steps:
    """A new keeper, which has another table, and a store that returns."""
    yield assign("take the lock", lambda world: not world.locked, locked=1)
    yield assign("answer", returned=100)


def attacher(broken: Broken) -> Steps:
    """A thread of a client attaches to the next keeper."""
    yield assign("attach", lambda world: world.returned == 100, attached=1)


def looker(broken: Broken) -> Steps:
    """Another thread of it looks for the key, which the dead keeper's table has not, and the next one's may have."""
    begun = yield see("begin", lambda world: world.returned)
    if (yield see("take the table", lambda world: world.attached)):
        return  # it has what there is
    if (
        not broken.dead_table_believed
        and (yield see("look whether its keeper lives", lambda world: world.lives)) != 1
    ):
        yield wait("wait for who attaches", lambda world: world.attached == 1)
        return
    if begun == 100:
        yield assign("believe that there is none", wrong="newest: a miss, and 100 was there")


def changer(broken: Broken) -> Steps:
    """A client reads, and has the value changed if it is the one still (`incr`, `pop`)."""
    version, value = yield see("read", lambda world: (world.version, world.returned))

    def change(world: World) -> tuple[World, Any]:
        if world.version == version and world.returned != value:
            return world._replace(wrong=f"newest: {world.returned} changed, and {value} was read"), None
        return world, None

    yield Act("have it changed at that version", change, lambda world: world.locked == 1)


def storing_successor(broken: Broken) -> Steps:
    """A new keeper, and what somebody stores there."""
    yield assign("take the lock", lambda world: not world.locked, locked=1)
    yield assign("store", version=2 if broken.versions_anew else 100, returned=100)


MODEL = Model(
    World(),
    Broken,
    {
        "overwritten": {"keeper": overwriter, "reader": reader},
        "overwritten, two readers": {"keeper": overwriter, "reader": reader, "other": reader},
        "purged": {"kernel": purger, "keeper": toucher, "reader": reader},
        "purged to zeros": {
            "kernel": lambda broken: purger(broken, ZEROS),
            "reader": lambda broken: reader(broken, stamped=True),
        },
        "a huge page is purged": {"keeper": overwriter, "kernel": huge_purger, "reader": reader},
        "two connections": {"client": giver_up, "keeper": hearer, "reader": reader},
        "overwritten and purged": {"keeper": overwriter, "kernel": purger, "reader": reader},
        "the table moves": {"keeper": mover, "reader": reader},
        "another thread attaches": {
            "kernel": killer,
            "successor": successor,
            "attacher": attacher,
            "looker": looker,
        },
        "changed at a version": {"kernel": killer, "successor": storing_successor, "client": changer},
        "death": {"kernel": killer, "successor": successor, "reader": reader},
        "overwritten and killed": {"keeper": overwriter, "kernel": killer, "reader": reader},
    },
)
