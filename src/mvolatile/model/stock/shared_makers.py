"""Makers of a shared cache's values that need each other's: who waits where, and who sees the circle (schedule 39).

Of one process a thread makes k0 and needs k1, and another makes k1 and needs k2; a third, of another process, makes k2
and needs k0. Each asks within its process first, and then for a lease at the keeper, as `cache/singleflight.py`,
`shared/lease.py` and `shared/leases.py` do. What must never be is that all wait, which the explorer calls a deadlock;
or that a value is stored by two who make it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import acts
from .acts import Act, Model, do

__all__ = ["MODEL", "Broken", "World"]

NOBODY, STORED = -1, -2


class World(NamedTuple):
    """By key, of which maker n makes the n-th."""

    leased: tuple[int, ...] = (NOBODY,) * 3
    """Who has the lease at the keeper, or `STORED`."""
    called: tuple[int, ...] = (NOBODY,) * 3
    """Who makes it in the process of the first two; the third's has no other thread."""
    waits: tuple[int, ...] = (NOBODY,) * 3
    """By maker: the key that it waits for at the keeper, and the keeper knows which lease it has."""
    waits_within: tuple[int, ...] = (NOBODY,) * 3
    """By maker: the key that it waits for in its process, of which the keeper knows nothing."""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The protocol with one thing done wrong. Every switch off is the library as it is."""

    waits_within: bool = False
    """Who makes under a lease waits for another thread of its process without asking the keeper."""
    holding_untold: bool = False
    """Who asks for a lease does not name those that it has."""
    owner_stores: bool = False
    """Who makes its own, since it would close a circle, stores it."""


Steps = acts.Steps[World]
Program = Callable[[Broken], Steps]


def _with(what: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*what[:at], value, *what[at + 1 :])


def _leads_to(edges: tuple[int, ...], owners: tuple[int, ...], key: int, me: int) -> bool:
    """Whether who makes `key` waits, itself or by others, for what `me` makes."""
    for _ in range(len(edges)):
        owner = owners[key]
        if owner == me:
            return True
        if owner < 0 or edges[owner] < 0:
            return False
        key = edges[owner]
    return False


def _call(me: int, key: int) -> Act[World]:
    """`Calls.join`: our own call, or another thread's; a circle within the process is seen here."""

    def change(world: World) -> tuple[World, Any]:
        other = world.called[key]
        if other in (NOBODY, me):
            return world._replace(called=_with(world.called, key, me)), "mine"
        circle = _leads_to(world.waits_within, world.called, key, me)
        return world, "circle" if circle else "another's"

    return Act(f"join the call of k{key}", change)


def _ask(me: int, key: int, broken: Broken) -> Act[World]:
    """`Leases.ask`."""

    def change(world: World) -> tuple[World, Any]:
        owner = world.leased[key]
        if owner == STORED:
            return world, "look"
        if owner == NOBODY:
            return world._replace(leased=_with(world.leased, key, me)), "lease"
        if not broken.holding_untold and _leads_to(world.waits, world.leased, key, me):
            return world, "own"
        return world._replace(waits=_with(world.waits, me, key)), "wait"

    return Act(f"ask for the lease of k{key}", change)


def _make(me: int, key: int, broken: Broken, needs: int | None) -> Steps:
    """`SingleFlight.make` and `leased`: the value of `key`, by whomever."""
    has_company = me < 2
    if has_company:
        joined = yield _call(me, key)
        if joined == "circle":
            return
        if joined == "another's" and (broken.waits_within or needs is not None):
            # One that has no lease may wait here: nobody waits for it at the keeper.
            yield do(
                f"wait for the call of k{key}",
                lambda world: world._replace(waits_within=_with(world.waits_within, me, key)),
            )
            yield do(
                f"the call of k{key} is over",
                lambda world: world._replace(waits_within=_with(world.waits_within, me, NOBODY)),
                lambda world: world.called[key] == NOBODY,
            )
            return
    answer = yield _ask(me, key, broken)
    if answer == "wait":
        yield do(
            f"k{key} is there",
            lambda world: world._replace(waits=_with(world.waits, me, NOBODY)),
            lambda world: world.leased[key] == STORED,
        )
    elif answer == "lease":
        if needs is not None:
            yield from _make(me, needs, broken, None)
        yield _store(me, key)
    elif answer == "own" and broken.owner_stores:
        yield _store(me, key)
    if has_company:
        yield do(
            f"the call of k{key} ends",
            lambda world: (
                world._replace(called=_with(world.called, key, NOBODY)) if world.called[key] == me else world
            ),
        )


def _store(me: int, key: int) -> Act[World]:
    def change(world: World) -> tuple[World, Any]:
        if world.leased[key] != me:
            return world._replace(wrong=f"lease: maker {me} stores k{key} without it"), None
        return world._replace(leased=_with(world.leased, key, STORED)), None

    return Act(f"store k{key}", change)


def _maker(me: int) -> Program:
    return lambda broken: _make(me, me, broken, (me + 1) % 3)


_WHO = ("thread", "sibling", "stranger")

MODEL = Model(
    World(), Broken, {"a circle through two processes": {name: _maker(at) for at, name in enumerate(_WHO)}}
)
