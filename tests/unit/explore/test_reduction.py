"""The reduction against plain search: on random programs both find the same violations and final states."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mvolatile.explore import (
    Exhaustive,
    Random,
    Reducible,
    Repeatable,
    Strategy,
    System,
    ThreadedSystem,
    explore,
    replay,
    shrink,
)
from unit.explore.programs import Lock, Read, Steps, Swap, Unlock, Wait, World, Write, WriteThrough, world

NAMES = ("x", "y", "z")
LOCKS = ("p", "q")

Instruction = tuple[Any, ...]
Alternative = tuple[int, int, int, int, int]
Table = list[list[Alternative]]
Watches = frozenset[Hashable] | None
Places = tuple[tuple[int, ...], tuple[int, ...]]


def interpret(instructions: Sequence[Instruction]) -> Steps:
    """A thread: a list of small instructions, with the last value read as its only register."""
    register = 0
    for code, *arguments in instructions:
        match code:
            case "read":
                register = yield Read(arguments[0])
            case "write":
                yield Write(arguments[0], arguments[1])
            case "store":
                yield Write(arguments[0], register)
            case "cas":
                hit = yield Swap(arguments[0], register, arguments[1])
                register = int(hit)  # worlds with False and with 0 are equal, and would be one
                del hit
            case "lock":
                yield Lock(arguments[0])
            case "unlock":
                yield Unlock(arguments[0])
            case "read-if":
                if register:
                    register = yield Read(arguments[0])
            case "write-if":
                if register:
                    yield Write(arguments[0], arguments[1])
            case "spin":
                register = yield Read(arguments[0])
                while register:
                    register = yield Read(arguments[0])
            case "wait":
                yield Wait(arguments[0])
            case "write-through":
                yield WriteThrough(arguments[0], NAMES, arguments[1])
            case "assert":
                assert register < 2, "register: too big"
    return int(register)


name = st.sampled_from(NAMES)
value = st.integers(0, 2)
lock = st.sampled_from(LOCKS)
instruction = st.one_of(
    st.tuples(st.just("read"), name),
    st.tuples(st.just("write"), name, value),
    st.tuples(st.just("store"), name),
    st.tuples(st.just("cas"), name, value),
    st.tuples(st.just("lock"), lock),
    st.tuples(st.just("unlock"), lock),
    st.tuples(st.just("read-if"), name),
    st.tuples(st.just("write-if"), name, value),
    st.tuples(st.just("spin"), name),
    st.tuples(st.just("wait"), name),
    st.tuples(st.just("write-through"), name, value),
    st.tuples(st.just("assert")),
)
thread = st.lists(instruction, max_size=5)


def check(state: World) -> str | None:
    values = dict(state)
    if values["x"] == 2 and values["y"] == 1:
        return "pair: x is 2 while y is 1"
    if values["y"] == 2:
        return "single: y is 2"
    return None


def system(programs: list[list[Instruction]], watches: Watches) -> ThreadedSystem[World]:
    return ThreadedSystem(
        world(x=0, y=0, z=1, p=0, q=0),
        {f"t{number}": partial(interpret, tuple(program)) for number, program in enumerate(programs)},
        check=check,
        watches=watches,
    )


def findings(
    programs: list[list[Instruction]], watches: Watches, strategy: Strategy
) -> tuple[frozenset[str], set[Any]]:
    explored = system(programs, watches)
    result = explore(explored, strategy, stop_at_first=False)
    assert result.complete
    return result.properties, {explored.view(state) for state in result.finals}


FAILURE_HIDES_THE_WORLD = [
    [("read", "x"), ("store", "y")],
    [("write-through", "y", 2), ("read", "x"), ("assert",), ("read", "y")],
    [("write", "x", 1)],
]

WATCHES = st.sampled_from([None, frozenset("xy"), frozenset("xyzpq")])


@given(st.lists(thread, min_size=2, max_size=3), WATCHES)
@example([[("spin", "z")], [("write", "y", 2)]], frozenset("xy"))
@example([[("spin", "z")], [("write", "z", 0), ("write", "x", 2)], [("write", "y", 1)]], frozenset("xy"))
@example([[("lock", "p"), ("lock", "q")], [("lock", "q"), ("lock", "p")]], None)
@example([[("write-through", "x", 2)], [("write", "x", 1)], [("read", "y"), ("store", "z")]], None)
@example([[("write", "x", 1)], [("read", "x"), ("read", "y"), ("read", "x")]], None)
@example([[("write", "x", 2), ("write", "x", 0)], [("write", "y", 1), ("write", "y", 0)]], frozenset("xy"))
@example(FAILURE_HIDES_THE_WORLD, None)
@settings(max_examples=400, deadline=None)
def test_reduced_search_finds_what_plain_search_finds(
    programs: list[list[Instruction]], watches: Watches
) -> None:
    assert findings(programs, watches, Exhaustive()) == findings(programs, watches, Exhaustive(reduce=False))


class Tables:
    """A system that is no system of threads: actors offer several steps at once, and tables say which.

    ``tables[actor][place]`` lists alternatives ``(guard, needed, target, value, next place)``: if variable
    `guard` has the value `needed`, set `target` to `value` and go to that place (past the end: ended).
    Variables are numbers from 0 to 2.
    """

    def __init__(self, tables: list[Table], watches: Watches, *, tell_positions: bool) -> None:
        self.tables = tables
        self.actors = tuple(f"actor{number}" for number in range(len(tables)))
        self.watches = watches
        self.tell_positions = tell_positions

    def initial(self) -> Places:
        return (0, 0, 0), (0,) * len(self.tables)

    def _alternatives(self, state: Places, number: int) -> list[Alternative]:
        place = state[1][number]
        return self.tables[number][place] if place < len(self.tables[number]) else []

    def _step(self, number: int, alternatives: list[Alternative], taken: list[Alternative]) -> TableStep:
        # What the other alternatives look at decides, too, which are offered.
        writes = frozenset(target for _, _, target, _, _ in taken)
        reads = frozenset(guard for guard, *_ in alternatives)
        return TableStep(self.actors[number], str(taken), reads, writes, number, taken[0])

    def enabled(self, state: Places) -> list[TableStep]:
        found: list[TableStep] = []
        for number in range(len(self.tables)):
            alternatives = self._alternatives(state, number)
            for alternative in alternatives:
                if state[0][alternative[0]] == alternative[1]:
                    found.append(self._step(number, alternatives, [alternative]))
        return found

    def blocked(self, state: Places) -> list[TableStep]:
        able = {step.actor for step in self.enabled(state)}
        return [
            self._step(number, alternatives, alternatives)
            for number, actor in enumerate(self.actors)
            if (alternatives := self._alternatives(state, number)) and actor not in able
        ]

    def positions(self, state: Places) -> tuple[int | None, ...]:
        return state[1] if self.tell_positions else (None,) * len(self.tables)

    def apply(self, state: Places, step: Any) -> Places:
        values, places = list(state[0]), list(state[1])
        _, _, target, value, following = step.alternative
        values[target] = value
        places[step.number] = following
        return tuple(values), tuple(places)

    def check(self, state: Places) -> str | None:
        values = state[0]
        if values[0] == 2 and values[1] == 1:
            return "pair: seen"
        return "single: seen" if values[1] == 2 else None

    def check_final(self, state: Places) -> str | None:
        waiting = [step.actor for step in self.blocked(state)]
        return f"waiting-{'-'.join(waiting)}: for ever" if waiting else None


@dataclass(frozen=True)
class TableStep:
    actor: str
    label: str
    reads: frozenset[Hashable]
    writes: frozenset[Hashable]
    number: int
    alternative: Any


variable, place = st.integers(0, 2), st.integers(0, 4)
alternative = st.tuples(variable, st.integers(0, 2), variable, st.integers(0, 2), place)
table = st.lists(st.lists(alternative, min_size=1, max_size=3), max_size=4)


SECOND_PASS_NEEDED = [
    [[(0, 0, 0, 0, 1), (0, 0, 0, 1, 0), (2, 1, 1, 0, 1)]],
    [[(0, 1, 2, 0, 2), (0, 0, 2, 0, 0)], [(2, 0, 2, 0, 2)]],
    [[(1, 0, 2, 1, 2)], [(0, 0, 0, 0, 3)], [(0, 1, 2, 0, 3), (0, 0, 1, 2, 3)]],
]
"""A loop, in which a decision falls only once its state has been left."""


@given(st.lists(table, min_size=1, max_size=3), st.sampled_from([None, frozenset([0, 1])]), st.booleans())
@example(SECOND_PASS_NEEDED, frozenset([0, 1]), True)
@settings(max_examples=400, deadline=None)
def test_reduced_search_of_systems_with_choices_and_loops(
    tables: list[Table], watches: Watches, tell_positions: bool
) -> None:
    found = [
        explore(Tables(tables, watches, tell_positions=tell_positions), strategy, stop_at_first=False)
        for strategy in (Exhaustive(), Exhaustive(reduce=False), Exhaustive(steps=200))
    ]
    assert all(result.complete for result in found)
    assert found[0].properties == found[1].properties == found[2].properties
    assert found[0].finals == found[1].finals == found[2].finals
    assert found[0].states <= found[1].states == found[2].states


@given(st.lists(table, min_size=1, max_size=3), st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_a_choice_of_steps_is_part_of_the_schedule(tables: list[Table], seed: int) -> None:
    system = Tables(tables, None, tell_positions=True)
    for violation in explore(system, Random(seed=seed, runs=20, steps=30), stop_at_first=False).violations:
        assert f"{violation.violated}: {violation.message}" in replay(system, violation.schedule).findings
        assert len(shrink(system, violation).moves) <= len(violation.moves)


class Plain:
    """The least a system needs: a counter that two actors advance. It tells nothing for a reduction."""

    actors = ("a", "b")

    def initial(self) -> tuple[int, int]:
        return (0, 0)

    def enabled(self, state: tuple[int, int]) -> list[TableStep]:
        everything = frozenset(["all"])
        return [
            TableStep(actor, "advance", everything, everything, number, ())
            for number, actor in enumerate(self.actors)
            if state[number] < 3
        ]

    def apply(self, state: tuple[int, int], step: Any) -> tuple[int, int]:
        a, b = (value + (number == step.number) for number, value in enumerate(state))
        return a, b

    def check(self, state: tuple[int, int]) -> str | None:
        return "far-apart: by three" if abs(state[0] - state[1]) == 3 else None

    def check_final(self, state: tuple[int, int]) -> str | None:
        return None


def test_a_system_that_tells_little_is_searched_plainly() -> None:
    assert isinstance(Plain(), System)
    assert not isinstance(Plain(), Reducible)
    result = explore(Plain(), stop_at_first=False, shortest=True)
    assert (result.states, result.steps, set(result.properties)) == (16, 24, {"far-apart"})
    assert result.violation is not None
    assert result.violation.schedule in ("a*3", "b*3")
    assert replay(Plain(), "a*3").finding == "far-apart: by three"


def test_a_system_of_threads_tells_everything() -> None:
    threads = system([[], []], None)
    assert isinstance(threads, Reducible)
    assert isinstance(threads, Repeatable)
