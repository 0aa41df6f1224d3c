"""Known outcome sets: the classic litmus tests, under sequential consistency and with store buffers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import pytest

from mvolatile.explore import Exhaustive, Strategy, ThreadedSystem, explore
from unit.explore.programs import Program, Read, Steps, System, World, Write, put, world

BOTH = pytest.mark.parametrize("strategy", [Exhaustive(), Exhaustive(reduce=False)], ids=["reduced", "plain"])


def outcomes(system: System, strategy: Strategy) -> set[tuple[Any, ...]]:
    """What the threads returned, flattened in the order of their names, in each final state."""
    result = explore(system, strategy, stop_at_first=False)
    assert result.holds
    found = set()
    for state in result.finals:
        values: list[Any] = []
        for value in system.outcomes(state).values():
            values += value if isinstance(value, tuple) else [] if value is None else [value]
        found.add(tuple(values))
    return found


@BOTH
def test_store_buffering(strategy: Strategy) -> None:
    def a() -> Steps:
        yield Write("x", 1)
        return (yield Read("y"))

    def b() -> Steps:
        yield Write("y", 1)
        return (yield Read("x"))

    assert outcomes(ThreadedSystem(world(x=0, y=0), {"a": a, "b": b}), strategy) == {(0, 1), (1, 0), (1, 1)}


@BOTH
def test_message_passing(strategy: Strategy) -> None:
    def send() -> Steps:
        yield Write("data", 1)
        yield Write("flag", 1)

    def receive() -> Steps:
        flag = yield Read("flag")
        data = yield Read("data")
        return flag, data

    system = ThreadedSystem(world(data=0, flag=0), {"send": send, "receive": receive})
    assert outcomes(system, strategy) == {(0, 0), (0, 1), (1, 1)}


@BOTH
def test_load_buffering(strategy: Strategy) -> None:
    def a() -> Steps:
        value = yield Read("x")
        yield Write("y", 1)
        return value

    def b() -> Steps:
        value = yield Read("y")
        yield Write("x", 1)
        return value

    assert outcomes(ThreadedSystem(world(x=0, y=0), {"a": a, "b": b}), strategy) == {(0, 0), (0, 1), (1, 0)}


@BOTH
def test_independent_reads_of_independent_writes(strategy: Strategy) -> None:
    def write(name: str) -> Program:
        def program() -> Steps:
            yield Write(name, 1)

        return program

    def read(first: str, second: str) -> Program:
        def program() -> Steps:
            one = yield Read(first)
            two = yield Read(second)
            return one, two

        return program

    programs = {"w": write("x"), "v": write("y"), "r": read("x", "y"), "s": read("y", "x")}
    # The readers never disagree on which write came first; all else is possible.
    expected = set(product((0, 1), repeat=4)) - {(1, 0, 1, 0)}
    assert outcomes(ThreadedSystem(world(x=0, y=0), programs), strategy) == expected


@dataclass(frozen=True)
class Buffer:
    """Put a store into the thread's own buffer."""

    thread: str
    name: str
    value: int

    @property
    def label(self) -> str:
        return f"buffer {self.name} = {self.value}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([f"buffer_{self.thread}"])

    writes = reads

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        buffer = f"buffer_{self.thread}"
        return put(state, buffer, dict(state)[buffer] + ((self.name, self.value),)), None


@dataclass(frozen=True)
class Flush:
    """Move the oldest store of a buffer to memory; its location is known only from the world."""

    thread: str
    label = "flush"

    def footprint(self, state: World) -> tuple[frozenset[str], frozenset[str]]:
        buffer = f"buffer_{self.thread}"
        stores = dict(state)[buffer]
        return frozenset([buffer]), frozenset([buffer, *(name for name, _ in stores[:1])])

    def ready(self, state: World) -> bool:
        return bool(dict(state)[f"buffer_{self.thread}"])

    def perform(self, state: World) -> tuple[World, Any]:
        buffer = f"buffer_{self.thread}"
        (name, value), *rest = dict(state)[buffer]
        return put(put(state, buffer, tuple(rest)), name, value), None


@dataclass(frozen=True)
class Load:
    """Read through the thread's own buffer."""

    thread: str
    name: str

    @property
    def label(self) -> str:
        return f"load {self.name}"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([self.name, f"buffer_{self.thread}"])

    writes: ClassVar[frozenset[str]] = frozenset()

    def ready(self, state: World) -> bool:
        return True

    def perform(self, state: World) -> tuple[World, Any]:
        values = dict(state)
        return state, dict(values[f"buffer_{self.thread}"]).get(self.name, values[self.name])


@dataclass(frozen=True)
class Fence:
    """Wait until the buffer is empty."""

    thread: str
    label = "fence"
    writes: ClassVar[frozenset[str]] = frozenset()

    @property
    def reads(self) -> frozenset[str]:
        return frozenset([f"buffer_{self.thread}"])

    def ready(self, state: World) -> bool:
        return not dict(state)[f"buffer_{self.thread}"]

    def perform(self, state: World) -> tuple[World, Any]:
        return state, None


@BOTH
@pytest.mark.parametrize("fenced", [False, True])
def test_store_buffering_with_store_buffers(strategy: Strategy, fenced: bool) -> None:
    def run(thread: str, mine: str, other: str) -> Program:
        def program() -> Steps:
            yield Buffer(thread, mine, 1)
            if fenced:
                yield Fence(thread)
            return (yield Load(thread, other))

        return program

    def flusher(thread: str) -> Program:
        def program() -> Steps:
            while True:
                yield Flush(thread)

        return program

    programs = {"a": run("a", "x", "y"), "b": run("b", "y", "x"), "fa": flusher("a"), "fb": flusher("b")}
    system = ThreadedSystem(
        world(x=0, y=0, buffer_a=(), buffer_b=()), programs, daemons=("fa", "fb"), watches=frozenset()
    )
    relaxed: set[tuple[int, ...]] = set() if fenced else {(0, 0)}
    assert outcomes(system, strategy) == {(0, 1), (1, 0), (1, 1)} | relaxed


@BOTH
def test_a_thread_reads_its_own_buffered_store(strategy: Strategy) -> None:
    def program() -> Steps:
        yield Buffer("a", "x", 1)
        return (yield Load("a", "x"))

    def flusher() -> Steps:
        while True:
            yield Flush("a")

    system = ThreadedSystem(world(x=0, buffer_a=()), {"a": program, "f": flusher}, daemons=("f",))
    assert outcomes(system, strategy) == {(1,)}
