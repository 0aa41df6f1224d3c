"""Generators as automata: equal local states are one, and unequal ones are never taken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pytest

from mvolatile.explore import Exhaustive, ThreadedSystem, check_merging, explore
from unit.explore.programs import Program, Read, Steps, System, Write, world


def flip(times: int) -> Program:
    def program() -> Steps:
        for number in range(times):
            yield Write("x", number % 2)

    return program


def outcomes(system: System) -> set[tuple[Any, ...]]:
    result = explore(system, Exhaustive(reduce=False), stop_at_first=False)
    return {tuple(system.outcomes(state).values()) for state in result.finals}


def same_with_and_without_merging(program: Program, *, times: int = 3) -> set[tuple[Any, ...]]:
    system = ThreadedSystem(world(x=0), {"a": program, "b": flip(times)})
    merged, unmerged = check_merging(system)
    assert merged.states <= unmerged.states
    return outcomes(system)


def test_a_spin_loop_is_a_cycle() -> None:
    def spin() -> Steps:
        while not (yield Read("x")):
            pass
        return "seen"

    def forever() -> Steps:
        while True:
            yield Write("x", 0)
            yield Write("x", 1)

    result = explore(
        ThreadedSystem(world(x=0), {"a": spin, "b": forever}, daemons=["b"]), stop_at_first=False
    )
    assert result.complete
    assert result.states <= 2 * 3 * 2 + 2


def test_the_iterator_of_a_loop_is_local_state() -> None:
    def program() -> Steps:
        seen = 0
        for _ in (7, 7, 7):  # the place in the tuple is on the evaluation stack alone
            seen += yield Read("x")
        return seen

    assert same_with_and_without_merging(program) == {(n, None) for n in range(4)}


def test_a_half_evaluated_expression_is_local_state() -> None:
    def program() -> Steps:
        return ((yield Read("x")), (yield Read("x")), (yield Read("x")))

    found = same_with_and_without_merging(program)
    assert {values for values, _ in found} == {(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)} - {
        (1, 0, 1)  # would take two ones: x is 0, 1, 0
    }


@pytest.mark.parametrize("make", [list, tuple, lambda v: dict(enumerate(v)), lambda v: iter(list(v))])
def test_iterators_over_containers(make: Callable[[Any], Any]) -> None:
    def program() -> Steps:
        total = []
        for item in make((5, 5, 6)):
            total.append((item, (yield Read("x"))))
        return tuple(total)

    same_with_and_without_merging(program)


def test_enumerate_zip_and_reversed() -> None:
    def program() -> Steps:
        total = 0
        for (index, left), right in zip(enumerate((3, 3)), reversed((4, 4)), strict=True):
            total += index + left * right * (yield Read("x"))
        return total

    same_with_and_without_merging(program)


def test_lists_count_by_contents_and_by_identity() -> None:
    def program() -> Steps:
        one: list[Any] = []
        two = one if (yield Read("x")) else []
        yield Read("x")
        one.append(1)
        return len(two)

    assert same_with_and_without_merging(program, times=2) == {(0, None), (1, None)}


def test_true_is_not_one() -> None:
    def program() -> Steps:
        value = yield Read("x")
        value = bool(value) if value else 1  # True or 1: equal, and yet not the same
        yield Read("x")
        return type(value).__name__

    assert same_with_and_without_merging(program, times=2) == {("int", None), ("bool", None)}


def test_subroutines_and_local_functions() -> None:
    def program() -> Steps:
        def twice(name: str) -> Steps:
            first = yield Read(name)
            second = yield Read(name)
            return first + second

        total = 0
        while total < 2:
            total = yield from twice("x")
        return total

    def toggle() -> Steps:
        while True:
            yield Write("x", 1)
            yield Write("x", 0)

    system = ThreadedSystem(world(x=0), {"a": program, "b": toggle}, daemons=["b"])
    assert explore(system, stop_at_first=False, max_states=500).complete


@dataclass(frozen=True)
class Point:
    value: int


class Pair(NamedTuple):
    value: object


@pytest.mark.parametrize(
    "make", [Pair, Point, lambda value: frozenset([value]), lambda value: 0.0 if value is True else -0.0]
)
def test_values_that_compare_equal_and_print_otherwise_are_not_one(make: Callable[[Any], Any]) -> None:
    def program() -> Steps:
        value = make(bool(1)) if (yield Read("x")) else make(1)
        yield Read("x")
        return repr(value)

    assert make(True) == make(1)
    assert len(same_with_and_without_merging(program, times=2)) == 2


class Identity:
    def __init__(self, value: Any) -> None:
        self.value = value


def test_objects_merge_if_they_compare_by_value() -> None:
    def program(kind: Callable[[Any], Any]) -> Steps:
        for _ in range(3):
            point = kind((yield Read("x")) * 0)
        return point.value

    def states(kind: Callable[[Any], Any]) -> int:
        return explore(ThreadedSystem(world(x=0), {"a": partial(program, kind), "b": flip(3)})).states

    assert states(Point) < states(Identity)


def test_the_attributes_of_a_local_function_are_local_state() -> None:
    """A counter kept on the function: a search that takes two values of it for one proves what is false."""

    def program() -> Steps:
        def ticket() -> int:
            itself.next += 1
            return itself.next

        itself: Any = ticket
        itself.next = 0
        if (yield Read("x")):
            ticket()
        yield Write("x", 0)
        assert ticket() < 2, "ticket: taken twice"

    found = explore(ThreadedSystem(world(x=0), {"a": program, "b": flip(3)}))
    assert found.properties == {"ticket"}
    same_with_and_without_merging(program)


@pytest.mark.parametrize("name", ["append", "__iadd__"])
def test_what_a_builtin_method_is_bound_to_is_local_state(name: str) -> None:
    def program() -> Steps:
        push = getattr([], name)
        while len(push.__self__) < 3:
            push([(yield Read("x"))])
        return str(push.__self__)

    same_with_and_without_merging(program)


def test_a_class_of_the_programs_own_is_not_taken_for_another() -> None:
    def program() -> Steps:
        class Seen:
            number = 0

        while Seen.number < 3:
            value = yield Read("x")
            Seen.number += 1 + value
            del value
        return Seen.number

    same_with_and_without_merging(program)


def test_iterators_that_reduce_to_a_copy_keep_their_contents_apart() -> None:
    def program() -> Steps:
        first = iter({1: 0})
        second = iter({2: 0} if (yield Read("x")) else {3: 0})
        yield Read("x")
        return next(first), next(second)

    assert {values for values, _ in same_with_and_without_merging(program, times=2)} == {(1, 2), (1, 3)}


def test_a_loop_that_can_never_close_is_refused() -> None:
    def program() -> Steps:
        keeper = Identity(0)
        while True:
            keeper.value += yield Read("x")

    with pytest.raises(ValueError, match="thread 'a' goes on and on with a local value of type Identity"):
        explore(ThreadedSystem(world(x=0), {"a": program}))


def test_what_yields_from_no_generator_still_works() -> None:
    def program() -> Steps:
        yield from [Write("x", 4), Write("x", 4), Write("x", 5)]

    assert same_with_and_without_merging(program) == {(None, None)}


def test_programs_without_operations() -> None:
    def nothing() -> Steps:
        return 4
        yield

    system = ThreadedSystem(world(x=0), {"a": nothing})
    result = explore(system)
    assert (result.states, result.executions, result.holds) == (1, 1, True)
    assert system.outcomes(system.initial()) == {"a": 4}


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="daemons name no thread: c"):
        ThreadedSystem(world(x=0), {"a": flip(1)}, daemons=["c"])
    with pytest.raises(ValueError, match="a thread's name has no blank"):
        ThreadedSystem(world(x=0), {"a b": flip(1)})
