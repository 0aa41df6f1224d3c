"""The frame of the small models: a frozen world, programs that change it step by step, and switches each of which does
one thing wrong.

The world is a named tuple, and one location: these worlds are small, and a search need not be told what a step
touches of them. Whoever sees what must never be leaves it in the world's `wrong`, as ``"property: what was seen"``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Act", "Model", "Steps", "always", "assign", "do", "newest", "see", "told", "wait"]

W = TypeVar("W")
B = TypeVar("B")

_WORLD = frozenset({"world"})


def always(_: Any) -> bool:
    """Of a step that waits for nothing."""
    return True


@dataclass(frozen=True, slots=True)
class Act(Generic[W]):
    """One atomic step: `perform` gives the world after it, and its result."""

    label: str
    perform: Callable[[W], tuple[W, Any]]
    ready: Callable[[W], bool] = always
    reads: frozenset[str] = _WORLD
    writes: frozenset[str] = _WORLD


Steps = Generator[Act[W], Any, None]


def do(label: str, change: Callable[[W], W], ready: Callable[[W], bool] = always) -> Act[W]:
    """A step without a result."""
    return Act(label, lambda world: (change(world), None), ready)


def assign(label: str, ready: Callable[[Any], bool] = always, **values: Any) -> Act[Any]:
    """One that gives fields of the world these values."""
    return Act(label, lambda world: (world._replace(**values), None), ready)


def see(label: str, look: Callable[[W], Any], ready: Callable[[W], bool] = always) -> Act[W]:
    """One that changes nothing; its result is what `look` sees."""
    return Act(label, lambda world: (world, look(world)), ready, writes=frozenset())


def wait(label: str, ready: Callable[[W], bool]) -> Act[W]:
    """One that only waits."""
    return see(label, lambda _: None, ready)


def newest(value: int, begun: int) -> str:
    """What is wrong with a value that is older than what was there when its reading began."""
    return f"newest: {value}, and {begun} was there"


def told(world: Any) -> str | None:
    """What somebody left in the world's `wrong`."""
    return world.wrong or None


@dataclass(frozen=True)
class Model(Generic[W, B]):
    """One of them: its world, the dataclass of its switches, and by race its programs, which are given the switches.

    `check` tells what is wrong with a world; `daemons` who may wait for ever, by race.
    """

    world: W
    broken: Callable[..., B]
    races: Mapping[str, Mapping[str, Callable[[B], Steps[W]]]]
    check: Callable[[W], str | None] = told
    daemons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def switches(self) -> tuple[str, ...]:
        """The names of all deliberate faults."""
        whole: Any = self.broken
        return tuple(switch.name for switch in fields(whole))

    def programs(self, race: str, **switches: bool) -> dict[str, Callable[[], Steps[W]]]:
        """Of `race`, with these faults: without any, the library as it is."""
        broken = self.broken(**switches)
        return {name: partial(program, broken) for name, program in self.races[race].items()}
