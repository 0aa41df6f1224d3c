"""Planted bugs that must be found, by each strategy, and their repairs, in which nothing may be found."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from mvolatile.explore import PCT, Exhaustive, Random, Strategy, ThreadedSystem, explore, replay, shrink
from unit.explore.programs import (
    Lock,
    Program,
    Read,
    Steps,
    Swap,
    System,
    Unlock,
    World,
    Write,
    incrementer,
    world,
)

STRATEGIES: list[Strategy] = [
    Exhaustive(),
    Exhaustive(reduce=False),
    Exhaustive(preemptions=2),
    Exhaustive(steps=20),
    Random(seed=1),
    PCT(seed=1, depth=3),
]


def guarded(program: Program) -> Steps:
    yield Lock("m")
    yield from program()
    yield Unlock("m")


def increments(repaired: bool) -> System:
    program = partial(guarded, incrementer) if repaired else incrementer
    return ThreadedSystem(
        world(x=0, m=0),
        {"a": program, "b": program},
        check_final=lambda w, _: None if dict(w)["x"] == 2 else f"lost-update: x is {dict(w)['x']}",
    )


def check_then_act(repaired: bool) -> System:
    """Two threads take the last item of a stock."""

    def take() -> Steps:
        left = yield Read("stock")
        if left > 0:
            left = yield Read("stock")
            yield Write("stock", left - 1)

    program = partial(guarded, take) if repaired else take
    return ThreadedSystem(
        world(stock=1, m=0),
        {"a": program, "b": program},
        check=lambda w: "negative-stock: sold twice" if dict(w)["stock"] < 0 else None,
        watches=frozenset(["stock"]),
    )


def lock_order(repaired: bool) -> System:
    def both(first: str, second: str) -> Steps:
        yield Lock(first)
        yield Lock(second)
        yield Unlock(second)
        yield Unlock(first)

    other = ("p", "q") if repaired else ("q", "p")
    return ThreadedSystem(world(p=0, q=0), {"a": partial(both, "p", "q"), "b": partial(both, *other)})


def aba(repaired: bool) -> System:
    """A lock-free stack A -> B; popping compares the top alone: A taken off and put back is not noticed.

    Repaired, the top carries a version.
    """

    def top(node: Any, version: int) -> Any:
        return (node, version) if repaired else node

    def node_of(value: Any) -> Any:
        return value[0] if repaired else value

    def version_of(value: Any) -> int:
        return value[1] if repaired else 0

    def pop() -> Steps:
        old = yield Read("top")
        if node_of(old) is None:
            return None
        following = yield Read("next_" + node_of(old))
        done = yield Swap("top", old, top(following, version_of(old) + 1))
        return node_of(old) if done else None

    def push(node: Any) -> Steps:
        old = yield Read("top")
        yield Write("next_" + node, node_of(old))
        done = yield Swap("top", old, top(node, version_of(old) + 1))
        return done

    def meddle() -> Steps:
        first = yield from pop()
        second = yield from pop()
        if first == "A" and second == "B":
            yield from push("A")
            return second
        return None

    def final(state: World, outcomes: Mapping[str, Any]) -> str | None:
        on_stack = node_of(dict(state)["top"])
        if outcomes["b"] == "B" and on_stack == "B":
            return "aba: B is on the stack and in the hands of b"
        return None

    start = world(top=top("A", 0), next_A="B", next_B=None)
    return ThreadedSystem(start, {"a": pop, "b": meddle}, check_final=final)


BUGS = {"lost-update": increments, "negative-stock": check_then_act, "deadlock": lock_order, "aba": aba}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s.name} {s.bound}")
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found_and_its_schedule_replays(name: str, strategy: Strategy) -> None:
    result = explore(BUGS[name](False), strategy)
    assert result.properties == {name}
    assert not result.holds
    assert result.violation is not None
    run = replay(BUGS[name](False), result.violation.schedule)
    assert run.finding == f"{name}: {result.violation.message}"
    assert run.trace == result.violation.trace


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s.name} {s.bound}")
@pytest.mark.parametrize("name", BUGS)
def test_nothing_is_found_in_the_repaired_program(name: str, strategy: Strategy) -> None:
    result = explore(BUGS[name](True), strategy)
    assert result.violations == ()
    assert result.complete == (strategy.name == "exhaustive")
    assert result.holds == result.complete


SHORTEST = {
    "lost-update": (4, 1),  # a reads, b reads and writes, a writes
    "negative-stock": (6, 1),  # a looks, b takes the last one (three steps), a looks again and takes it
    "deadlock": (2, 1),  # one lock each
    "aba": (12, 1),  # both reads of a, the nine of b, the swap of a
}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: f"{s.name} {s.bound}")
@pytest.mark.parametrize("name", BUGS)
def test_shrinking_gives_the_shortest_schedule(name: str, strategy: Strategy) -> None:
    system = BUGS[name](False)
    found = explore(system, strategy).violation
    assert found is not None
    violation = shrink(system, found)
    assert (len(violation.moves), violation.preemptions) == SHORTEST[name]
    assert explore(system, strategy, shortest=True).violation == violation


@pytest.mark.parametrize("name", BUGS)
def test_no_shorter_schedule_exists(name: str) -> None:
    steps, preemptions = SHORTEST[name]
    assert explore(BUGS[name](False), Exhaustive(steps=steps - 1)).violations == ()
    assert explore(BUGS[name](False), Exhaustive(preemptions=preemptions - 1)).violations == ()


def test_shrinking_gives_up_when_told_to() -> None:
    system = increments(False)
    violation = explore(system, Random(seed=3)).violation
    assert violation is not None
    assert shrink(system, violation, max_states=3) == violation


def hidden(preemptions: int) -> System:
    """Fails only when `a` is stopped at each of its waypoints, by `b` moving on at each."""

    def a() -> Steps:
        for place in range(preemptions):
            yield Write("x", place + 1)
            seen = yield Read("y")
            if seen != place:
                return False
            yield Write("z", place)
            seen = yield Read("y")
            if seen != place + 1:
                return False
        return True

    def b() -> Steps:
        for place in range(preemptions):
            yield Write("y", place + 1)

    return ThreadedSystem(
        world(x=0, y=0, z=0),
        {"a": a, "b": b},
        check_final=lambda _, outcomes: "waypoints: all passed" if outcomes["a"] else None,
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_preemption_bound_finds_what_needs_that_many(count: int) -> None:
    # b stops between its writes as well, all but after the last: a is preempted `count` times, b once less.
    needed = 2 * count - 1
    assert explore(hidden(count), Exhaustive(preemptions=needed - 1)).holds
    found = explore(hidden(count), Exhaustive(preemptions=needed)).violation
    assert found is not None
    assert found.preemptions == needed
    assert not explore(hidden(count)).holds


def test_pct_finds_a_bug_of_depth_two_with_its_seed() -> None:
    # A lost update needs two ordering constraints; without a change of priorities nobody is preempted.
    assert explore(increments(False), PCT(seed=0, depth=1, runs=200)).violations == ()
    first, again = (explore(increments(False), PCT(seed=0, depth=2, runs=200)) for _ in range(2))
    assert first.violation is not None
    assert first.violation == again.violation
    assert (first.executions, first.steps) == (again.executions, again.steps)


def test_pct_keeps_its_promise() -> None:
    """At least one run in n k^(d-1) finds a bug of depth d: here n = 2 threads, k = 4 steps, d = 2."""
    found = sum(
        bool(explore(increments(False), PCT(seed=seed, depth=2, runs=2)).violations) for seed in range(400)
    )
    assert found >= 400 / (2 * 4)


def test_seeds_decide_random_runs() -> None:
    results = [explore(lock_order(False), Random(seed=seed, runs=3)) for seed in (0, 0, 1, 2, 3)]
    schedules = [result.violation and result.violation.schedule for result in results]
    assert schedules[0] == schedules[1]
    assert len(set(schedules)) > 1


@pytest.mark.parametrize("strategy", [Random(runs=5, steps=50), PCT(runs=5, steps=50)], ids=["random", "pct"])
def test_endless_runs_are_cut(strategy: Strategy) -> None:
    def spin() -> Steps:
        while True:
            yield Read("x")

    result = explore(ThreadedSystem(world(x=0), {"a": spin}), strategy)
    assert (result.cut, result.steps, result.executions, result.complete) == (5, 250, 0, False)
    assert explore(ThreadedSystem(world(x=0), {"a": spin})).states <= 2


def test_one_violation_for_each_property() -> None:
    def check(state: World) -> str | None:
        values = dict(state)
        return f"is-{values['x']}: seen" if values["x"] else None

    def program() -> Steps:
        yield Write("x", 1)
        yield Write("x", 2)
        value = yield Read("x")
        assert value == 2, "reads-two: read something else"

    def other() -> Steps:
        yield Write("x", 3)

    system = ThreadedSystem(world(x=0), {"a": program, "b": other}, check=check, watches=frozenset("x"))
    result = explore(system, stop_at_first=False)
    assert result.properties == {"is-1", "is-2", "is-3", "reads-two"}
    assert len(explore(system).violations) == 1


def test_failed_assertions_are_violations() -> None:
    def program() -> Steps:
        value = yield Read("x")
        assert value == 0, f"x was {value}"

    def other() -> Steps:
        yield Write("x", 5)

    violation = explore(ThreadedSystem(world(x=0), {"a": program, "b": other}), shortest=True).violation
    assert violation is not None
    assert (violation.violated, violation.message) == ("assertion", "a: x was 5")
    assert violation.schedule == "b a"


def test_depth_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="depth is at least 1"):
        PCT(depth=0)
