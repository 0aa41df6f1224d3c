"""The explorer by arithmetic: exact numbers of interleavings, states and steps."""

from __future__ import annotations

from functools import partial
from math import comb, factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvolatile.explore import Exhaustive, ThreadedSystem, count_interleavings, explore
from unit.explore.programs import Lock, Read, Steps, System, Unlock, Write, incrementer, world

PLAIN = Exhaustive(reduce=False)


def counter(name: str, steps: int) -> Steps:
    """Writes to a location of its own; nobody else looks."""
    for number in range(steps):
        yield Write(name, number + 1)


def counters(lengths: list[int]) -> System:
    names = [f"c{index}" for index in range(len(lengths))]
    start = world(**dict.fromkeys(names, 0))
    return ThreadedSystem(start, {n: partial(counter, n, k) for n, k in zip(names, lengths, strict=True)})


def enumerate_runs(system: System) -> int:
    """All complete schedules, one by one, without remembering states."""

    def go(state: tuple[int, ...]) -> int:
        steps = system.enabled(state)
        return sum(go(system.apply(state, step)) for step in steps) if steps else 1

    return go(system.initial())


@pytest.mark.parametrize("length", [1, 2, 5, 10, 40])
def test_two_threads_interleave_in_binomially_many_ways(length: int) -> None:
    assert count_interleavings(counters([length, length])) == comb(2 * length, length)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_threads_interleave_in_multinomially_many_ways(lengths: list[int]) -> None:
    ways = factorial(sum(lengths))
    for length in lengths:
        ways //= factorial(length)
    system = counters(lengths)
    assert count_interleavings(system) == ways
    states = 1
    for length in lengths:
        states *= length + 1
    plain = explore(system, PLAIN)
    assert (plain.states, plain.complete) == (states, True)
    # Each state but the final one is left once for each thread that has not ended.
    steps = sum(length * states // (length + 1) for length in lengths)
    assert plain.steps == steps
    assert plain.executions == steps - states + 2


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
@settings(deadline=None, max_examples=20)
def test_counting_is_enumerating(lengths: list[int]) -> None:
    system = counters(lengths)
    assert count_interleavings(system) == enumerate_runs(system)


def test_counting_is_enumerating_with_conflicts_and_locks() -> None:
    def guarded() -> Steps:
        yield Lock("m")
        yield from incrementer()
        yield Unlock("m")

    system = ThreadedSystem(world(x=0, m=0), {"a": guarded, "b": guarded, "c": incrementer})
    assert count_interleavings(system) == enumerate_runs(system)
    # A lock around everything leaves only the order of the threads.
    assert count_interleavings(ThreadedSystem(world(x=0, m=0), dict.fromkeys("abcd", guarded))) == factorial(
        4
    )


@pytest.mark.parametrize("lengths", [[3, 4], [5, 5, 5], [2, 2, 2, 2]])
def test_independent_threads_need_one_interleaving(lengths: list[int]) -> None:
    result = explore(counters(lengths))
    assert result.complete
    assert (result.executions, result.steps, result.states) == (1, sum(lengths), sum(lengths) + 1)


def test_a_loop_has_infinitely_many_interleavings() -> None:
    def spinner() -> Steps:
        while (yield Read("x")):
            pass

    def setter() -> Steps:
        yield Write("x", 0)

    with pytest.raises(ValueError, match="infinitely many"):
        count_interleavings(ThreadedSystem(world(x=1), {"s": spinner, "t": setter}))


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
def test_steps_bound_visits_exactly_the_states_within_it(bound: int) -> None:
    result = explore(counters([3, 3]), Exhaustive(steps=bound))
    assert result.states == sum(1 for a in range(4) for b in range(4) if a + b <= bound)
    assert result.complete
    assert result.cut == bound + 1


def test_a_bound_that_never_cuts_is_a_proof() -> None:
    bounded, free = explore(counters([3, 3]), Exhaustive(steps=6)), explore(counters([3, 3]), PLAIN)
    assert (bounded.cut, bounded.states) == (0, free.states)


def test_no_preemption_leaves_one_run_for_each_order_of_threads() -> None:
    result = explore(counters([3, 3, 3]), Exhaustive(preemptions=0))
    # Some threads have ended, one is between its first and last step, the others have not begun.
    assert result.states == 2**3 + 3 * 2 * 2**2


def test_max_states_gives_up() -> None:
    result = explore(counters([9, 9, 9]), PLAIN, max_states=100)
    assert not result.complete
    assert not result.holds
    assert result.states == 101


def test_progress_is_reported() -> None:
    seen = []
    result = explore(
        counters([30, 30, 30]), PLAIN, progress=lambda states, steps: seen.append((states, steps))
    )
    assert len(seen) >= 5
    assert seen == sorted(seen)
    assert seen[-1] <= (result.states, result.steps)
