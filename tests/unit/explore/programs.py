"""Operations on a world of named integers, and the small concurrent programs the tests explore."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from mvolatile.explore import ThreadedSystem

World = tuple[tuple[str, Any], ...]
Steps = Generator[Any, Any, Any]
Program = Callable[[], Steps]
System = ThreadedSystem[World]


def world(**values: Any) -> World:
    return tuple(sorted(values.items()))


def put(state: World, name: str, value: Any) -> World:
    return tuple((key, value if key == name else old) for key, old in state)


@dataclass(frozen=True)
class Read:
    name: str
    writes: ClassVar[frozenset[str]] = frozenset()

    @property
    def label(self) -> str:
        return f"read {self.name}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([self.name])

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        return state, dict(state)[self.name]


@dataclass(frozen=True)
class Write:
    name: str
    value: Any
    reads: ClassVar[frozenset[str]] = frozenset()

    @property
    def label(self) -> str:
        return f"{self.name} = {self.value}"

    @property
    def writes(self) -> frozenset[str]:
        return frozenset([self.name])

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        return put(state, self.name, self.value), None


@dataclass(frozen=True)
class Swap:
    """Compare and swap; gives whether it took place."""

    name: str
    old: Any
    new: Any

    @property
    def label(self) -> str:
        return f"cas {self.name}: {self.old} -> {self.new}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([self.name])

    writes = reads

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        hit = dict(state)[self.name] == self.old
        return (put(state, self.name, self.new) if hit else state), hit


@dataclass(frozen=True)
class Lock:
    name: str

    @property
    def label(self) -> str:
        return f"lock {self.name}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([self.name])

    writes = reads

    def ready(self, state: World) -> bool:
        return not dict(state)[self.name]

    def perform(self, state: World) -> tuple[World, Any]:
        return put(state, self.name, 1), None


@dataclass(frozen=True)
class Wait:
    """Block until a variable is not zero."""

    name: str
    writes: ClassVar[frozenset[str]] = frozenset()

    @property
    def label(self) -> str:
        return f"wait for {self.name}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([self.name])

    def ready(self, state: World) -> bool:
        return bool(dict(state)[self.name])

    def perform(self, state: World) -> tuple[World, Any]:
        return state, None


@dataclass(frozen=True)
class WriteThrough:
    """Write to the variable that a pointer names: its footprint is known in a world alone."""

    pointer: str
    names: tuple[str, ...]
    value: Any

    @property
    def label(self) -> str:
        return f"*{self.pointer} = {self.value}"

    def footprint(self, state: World) -> tuple[frozenset[str], frozenset[str]]:
        return frozenset([self.pointer]), frozenset([self.names[int(dict(state)[self.pointer])]])

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        return put(state, self.names[int(dict(state)[self.pointer])], self.value), None


def Unlock(name: str) -> Write:  # noqa: N802 - an operation like the others
    return Write(name, 0)


def incrementer(times: int = 1) -> Steps:
    for _ in range(times):
        value = yield Read("x")
        yield Write("x", value + 1)
