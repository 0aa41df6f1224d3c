"""How fast is the explorer, and how much does its reduction save?

    python benchmarks/explore_speed.py [--repeat N]

For each race: all its interleavings (exact, counted over the state graph: what a search that remembers nothing has
to run); the executions that a search follows which remembers states and leaves nothing out; and those that the
reduced search follows, to their end or to a state already known. Then the states of both, and the two ratios. Both
must violate the same properties. Then steps a second in one process, the best of N searches, each with a cold
system. Exits with 1 if a limit is missed: 50,000 steps a second with every strategy, and a tenth of the
interleavings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Any

from harness import Goal, finish, parser

from mvolatile.explore import (
    PCT,
    Exhaustive,
    Random,
    Result,
    Strategy,
    ThreadedSystem,
    count_interleavings,
    explore,
)

STEPS_A_SECOND = 50_000
SHARE = 0.1

World = tuple[Any, ...]
Program = Generator["Op", Any, Any]


@dataclass(frozen=True)
class Op:
    """Apply `change(old, argument)` to one cell; gives the old value."""

    label: str
    cell: int
    writing: bool
    change: Callable[[Any, Any], Any]
    argument: Any = None
    wait: bool = False

    @property
    def reads(self) -> frozenset[int]:
        return frozenset([self.cell])

    @property
    def writes(self) -> frozenset[int]:
        return frozenset([self.cell] if self.writing else [])

    def ready(self, world: World) -> bool:
        return not (self.wait and world[self.cell])

    def perform(self, world: World) -> tuple[World, Any]:
        old = world[self.cell]
        after = list(world)
        after[self.cell] = self.change(old, self.argument)
        return tuple(after), old


def keep(old: Any, argument: Any) -> Any:
    return old


def replace(old: Any, argument: Any) -> Any:
    return argument


def compare(old: Any, argument: Any) -> Any:
    return argument[1] if old == argument[0] else old


def read(cell: int) -> Op:
    return Op(f"read {cell}", cell, False, keep)


def write(cell: int, value: Any) -> Op:
    return Op(f"{cell} = {value}", cell, True, replace, value)


def swap(cell: int, old: Any, new: Any) -> Op:
    return Op(f"cas {cell}: {old} -> {new}", cell, True, compare, (old, new))


def lock(cell: int) -> Op:
    return Op(f"lock {cell}", cell, True, replace, 1, wait=True)


def unlock(cell: int) -> Op:
    return write(cell, 0)


def prepare(cell: int, steps: int) -> Program:
    """Work on something of one's own, as every kernel path does around the few steps that race."""
    for number in range(steps):
        yield write(cell, number)


def lost_update() -> ThreadedSystem[World]:
    def thread(own: int) -> Program:
        yield from prepare(own, 3)
        value = yield read(0)
        yield write(own, value)
        yield write(0, value + 1)
        yield from prepare(own, 2)

    return ThreadedSystem(
        (0, 0, 0, 0),
        {f"t{own}": partial(thread, own) for own in (1, 2, 3)},
        check_final=lambda w, _: None if w[0] == 3 else f"lost-update: {w[0]}",
    )


def check_then_act() -> ThreadedSystem[World]:
    """The check holds the lock, and so does the act; between them it is free."""

    def thread(own: int) -> Program:
        yield from prepare(own, 2)
        yield lock(1)
        left = yield read(0)
        yield unlock(1)
        yield from prepare(own, 2)
        if left:
            yield lock(1)
            left = yield read(0)
            yield write(0, left - 1)
            yield unlock(1)

    return ThreadedSystem(
        (1, 0, 0, 0, 0),
        {f"t{own}": partial(thread, own) for own in (2, 3, 4)},
        check=lambda w: "negative-stock: sold twice" if w[0] < 0 else None,
        watches=frozenset([0]),
    )


def lock_order() -> ThreadedSystem[World]:
    """Three philosophers."""

    def thread(left: int, right: int, own: int) -> Program:
        yield from prepare(own, 3)
        yield lock(left)
        yield from prepare(own, 2)
        yield lock(right)
        yield from prepare(own, 2)
        yield unlock(right)
        yield unlock(left)

    return ThreadedSystem((0,) * 6, {f"t{n}": partial(thread, n, (n + 1) % 3, n + 3) for n in range(3)})


def publication() -> ThreadedSystem[World]:
    """The flag is set before the last field."""

    def writer() -> Program:
        for field in (1, 2, 3):
            yield write(field, 1)
        yield write(0, 1)
        yield write(4, 1)

    def reader(own: int) -> Program:
        yield from prepare(own, 3)
        if (yield read(0)):
            for field in (1, 2, 3, 4):
                value = yield read(field)
                assert value, "half-published: a field was read too early"
            yield from prepare(own, 3)

    return ThreadedSystem((0,) * 7, {"w": writer, "r": partial(reader, 5), "s": partial(reader, 6)})


def aba() -> ThreadedSystem[World]:
    """Pop on a lock-free stack 1 -> 2; cell 0 is the top, cells 1 and 2 the next of each node."""

    def pop(own: int) -> Program:
        yield from prepare(own, 2)
        top = yield read(0)
        if not top:
            return 0
        following = yield read(top)
        yield write(own, following)
        old = yield swap(0, top, following)
        return top if old == top else 0

    def push(node: int) -> Program:
        top = yield read(0)
        yield write(node, top)
        yield swap(0, top, node)

    def meddle(own: int) -> Program:
        first = yield from pop(own)
        second = yield from pop(own)
        if (first, second) == (1, 2):
            yield from push(1)
            return second
        return 0

    return ThreadedSystem(
        (1, 2, 0, 0, 0, 0),
        {"a": partial(pop, 3), "b": partial(meddle, 4), "c": partial(prepare, 5, 4)},
        check_final=lambda w, out: "aba: 2 is popped and on the stack" if out["b"] == 2 == w[0] else None,
    )


def locked_rounds() -> ThreadedSystem[World]:
    """Nothing wrong, and large enough to measure with."""

    def thread(own: int) -> Program:
        for _ in range(5):
            yield from prepare(own, 1)
            yield lock(0)
            value = yield read(1)
            yield write(own + 3, value)
            yield write(1, value + 1)
            del value
            yield unlock(0)

    return ThreadedSystem(
        (0,) * 8,
        {f"t{own}": partial(thread, own) for own in (2, 3, 4)},
        check=lambda w: None if w[1] <= 15 else "too-far: more than everybody's rounds",
        watches=frozenset([1]),
    )


Build = Callable[[], ThreadedSystem[World]]

RACES: dict[str, Build] = {
    "lost update": lost_update,
    "check then act": check_then_act,
    "lock order": lock_order,
    "early publication": publication,
    "ABA": aba,
    "locked rounds": locked_rounds,
}


def timed(build: Build, strategy: Strategy, repeat: int) -> tuple[Result, float]:
    """The result, and the best rate: steps a second of processor time, since other work may disturb the clock."""
    best = 0.0
    for _ in range(repeat):
        system = build()
        begin = process_time()
        result = explore(system, strategy, stop_at_first=False)
        best = max(best, result.steps / (process_time() - begin))
    return result, best


def measure(race: str, build: Build, repeat: int) -> dict[str, Any]:
    reduced, rate = timed(build, Exhaustive(), repeat)
    plain, _ = timed(build, Exhaustive(reduce=False), 1)
    if reduced.properties != plain.properties:
        raise SystemExit(f"{race}: the reduction finds {reduced.properties}, not {plain.properties}")
    violated = ", ".join(sorted(plain.properties)) or "-"
    compared = comparison(reduced, plain, count_interleavings(build()))
    return {"race": race, "violated": violated, **compared, "steps a second": rate}


def comparison(reduced: Result, plain: Result, every: int) -> dict[str, Any]:
    """The columns of a row; nothing about a plain search that has not ended."""
    ended = plain.complete
    return {
        "interleavings": float(every),
        "plain": plain.executions if ended else "",
        "reduced": reduced.executions,
        "states, plain": plain.states if ended else "",
        "states, reduced": reduced.states,
        "reduced / interleavings": reduced.executions / every,
        "reduced / plain": reduced.executions / plain.executions if ended else "",
    }


def speeds(repeat: int) -> dict[str, float]:
    """Steps a second of each strategy on the largest system."""
    strategies: dict[str, Strategy] = {
        "exhaustive, reduced": Exhaustive(),
        "exhaustive, plain": Exhaustive(reduce=False),
        "at most 2 preemptions": Exhaustive(preemptions=2),
        "random": Random(runs=2000),
        "PCT": PCT(runs=2000),
    }
    return {name: timed(locked_rounds, strategy, repeat)[1] for name, strategy in strategies.items()}


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--repeat", type=int, default=3, help="searches for each figure; the best counts")
    repeat = arguments.parse_args().repeat
    rows = [measure(race, build, repeat) for race, build in RACES.items()]
    goals = [
        Goal(
            "largest share of all interleavings",
            max(r["reduced / interleavings"] for r in rows),
            SHARE,
            False,
        ),
        *(
            Goal(f"steps a second, {name}", rate, STEPS_A_SECOND, True, "")
            for name, rate in speeds(repeat).items()
        ),
    ]
    return finish(__file__, "How fast is the explorer, and how much does its reduction save?", rows, goals)


if __name__ == "__main__":
    sys.exit(main())
