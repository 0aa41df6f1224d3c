"""Schedules as strings, and replay: twice, and loud when the two runs differ."""

from __future__ import annotations

from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvolatile.errors import NondeterminismError
from mvolatile.explore import (
    ThreadedSystem,
    check_merging,
    check_reduction,
    explore,
    format_schedule,
    parse_schedule,
    replay,
)
from unit.explore.programs import Read, Steps, System, World, Write, incrementer, world

moves = st.lists(st.tuples(st.sampled_from(["a", "reader", "cpu-0"]), st.integers(0, 3)))


@given(moves)
def test_a_schedule_survives_being_written_and_read(path: list[tuple[str, int]]) -> None:
    assert parse_schedule(format_schedule(path)) == path


def test_the_form_of_a_schedule() -> None:
    assert format_schedule([("a", 0)] * 3 + [("b", 1), ("a", 0)]) == "a*3 b.1 a"
    assert format_schedule([]) == "-"
    assert parse_schedule("a.2*2  a\n") == [("a", 2), ("a", 2), ("a", 0)]


@pytest.mark.parametrize("text", ["a*0", "*3", "a..1", "a*b", "a*2*3", ".1"])
def test_what_is_no_schedule_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a move of a schedule"):
        parse_schedule(text)


def test_an_empty_string_is_no_schedule() -> None:
    with pytest.raises(ValueError, match="'-'"):
        parse_schedule("  ")


@pytest.fixture
def increments() -> System:
    return ThreadedSystem(world(x=0), {"a": incrementer, "b": incrementer})


def test_a_replayed_run_shows_steps_states_and_preemptions(increments: System) -> None:
    run = replay(increments, "a b*2 a")
    assert [(step.actor, step.label, step.preempts) for step in run.trace] == [
        ("a", "read x", False),
        ("b", "read x", True),
        ("b", "x = 1", False),
        ("a", "x = 1", False),  # b has ended
    ]
    assert [dict(increments.world(state))["x"] for state in run.states] == [0, 0, 0, 1, 1]
    assert run.trace[1].reads == frozenset("x")
    assert (run.final, run.finding, run.preemptions) == (True, None, 1)


def test_a_run_need_not_be_complete(increments: System) -> None:
    run = replay(increments, "b")
    assert not run.final
    assert replay(increments, "-").states == (increments.initial(),)


def test_a_schedule_that_does_not_fit_says_where(increments: System) -> None:
    with pytest.raises(ValueError, match=r"move 3, a, is not possible here; possible: b \(read x\)"):
        replay(increments, "a*3")
    with pytest.raises(ValueError, match="the run has ended"):
        replay(increments, "a*2 b*3")
    with pytest.raises(ValueError, match=r"move 1, a\.1,"):
        replay(increments, "a.1")


def test_a_global_that_a_program_counts_with_is_noticed() -> None:
    numbers = count()

    def program() -> Steps:
        yield Write("x", next(numbers))

    with pytest.raises(NondeterminismError, match="step 1 of 'a' was"):
        replay(ThreadedSystem(world(x=0), {"a": program}), "a")


def test_another_way_in_the_second_run_is_noticed() -> None:
    calls = count()

    def program() -> Steps:
        if next(calls) == 0:
            yield Read("x")
        yield Read("y")

    with pytest.raises(NondeterminismError, match="went another way"):
        replay(ThreadedSystem(world(x=0, y=0), {"a": program}), "a*2")


def test_a_world_that_differs_is_noticed() -> None:
    calls = count()

    class Odd(Read):
        def perform(self, state: World) -> tuple[World, Any]:
            return world(x=next(calls)), None

    def program() -> Steps:
        yield Odd("x")

    with pytest.raises(NondeterminismError, match="the state after step 1"):
        replay(ThreadedSystem(world(x=0), {"a": program}), "a")


def test_a_finding_that_does_not_come_again_is_noticed() -> None:
    verdicts = iter(["broken: now", None])

    class Flaky(ThreadedSystem[World]):
        def check_final(self, state: tuple[int, ...]) -> str | None:
            return next(verdicts, None)

    with pytest.raises(NondeterminismError, match="'broken: now'"):
        explore(Flaky(world(x=0), {"a": incrementer}))


def test_a_generator_made_again_must_do_the_same() -> None:
    calls = count()

    def program() -> Steps:
        yield Read(f"x{min(next(calls), 1)}")
        yield Read("y")

    def other() -> Steps:
        yield Write("x0", 1)

    with pytest.raises(NondeterminismError, match="thread 'a'"):
        explore(ThreadedSystem(world(x0=0, x1=0, y=0), {"a": program, "b": other}))


def test_errors_of_a_program_tell_the_thread_and_the_schedule() -> None:
    def program() -> Steps:
        value = yield Read("x")
        yield Write("x", 1 // value)

    def other() -> Steps:
        yield Write("y", 1)

    with pytest.raises(ZeroDivisionError) as caught:
        explore(ThreadedSystem(world(x=0, y=0), {"b": other, "a": program}))
    notes = " ".join(caught.value.__notes__)
    assert "in thread 'a'" in notes
    assert "schedule up to there: b a" in notes


def test_merging_is_checked_against_not_merging(increments: System) -> None:
    merged, unmerged = check_merging(increments)
    assert merged.holds
    assert unmerged.holds


class Box:
    """Equal to every other box, whatever it holds."""

    held = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box)

    def __hash__(self) -> int:
        return 1


def test_merging_that_is_fooled_is_noticed() -> None:
    def program() -> Steps:
        box = Box()
        box.held = yield Read("x")
        yield Read("x")
        return box.held

    def other() -> Steps:
        yield Write("x", 1)

    with pytest.raises(NondeterminismError, match="merging local states"):
        check_merging(ThreadedSystem(world(x=0), {"a": program, "b": other}))


def test_a_footprint_that_lies_is_noticed() -> None:
    class Sly(Write):
        writes: ClassVar[frozenset[str]] = frozenset()

    def sly() -> Steps:
        yield Sly("x", 1)

    def reader() -> Steps:
        return (yield Read("x"))

    with pytest.raises(NondeterminismError, match="the reduction"):
        check_reduction(ThreadedSystem(world(x=0), {"a": sly, "b": reader}))


def test_what_check_looks_at_must_be_watched() -> None:
    def program() -> Steps:
        yield Write("x", 1)
        yield Write("x", 0)

    def other() -> Steps:
        yield Write("y", 1)
        yield Write("y", 0)

    def check(state: World) -> str | None:
        return "both: x and y" if dict(state)["x"] and dict(state)["y"] else None

    def system(watches: frozenset[str] | None) -> System:
        return ThreadedSystem(world(x=0, y=0), {"a": program, "b": other}, check=check, watches=watches)

    assert all(result.properties == {"both"} for result in check_reduction(system(frozenset("xy"))))
    assert all(result.properties == {"both"} for result in check_reduction(system(None)))
    with pytest.raises(NondeterminismError, match="both was not violated alike"):
        check_reduction(system(frozenset("x")))
