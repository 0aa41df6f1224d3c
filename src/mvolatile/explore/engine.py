"""The front door: explore a system with a strategy, and hand back findings that were proved to replay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from ..errors import NondeterminismError
from .exhaustive import Exhaustive
from .layers import search_layers
from .repeat import replay
from .result import Result, Violation
from .schedule import Move
from .system import System, property_of
from .tally import Progress, Strategy, Tally

__all__ = ["explore", "shrink"]


def explore(
    system: System[Any],
    strategy: Strategy | None = None,
    *,
    stop_at_first: bool = True,
    shortest: bool = False,
    max_states: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Search a system for violations; exhaustively and reduced, if no strategy is given.

    `stop_at_first`: stop at the first violation, else go on and find one for every property. `shortest`:
    shrink what was found (see `shrink`). `max_states`: give up after so many distinct states; the result
    is then not `complete`. `progress(states, steps)` is called every few thousand steps.

    Every violation is replayed twice before it is reported; `NondeterminismError` if that does not go the
    same way.
    """
    strategy = strategy or Exhaustive()
    tally = Tally(system, stop_at_first=stop_at_first, max_states=max_states, progress=progress)
    begin = perf_counter()
    with _collecting_rarely():
        strategy.search(system, tally)
    seconds = perf_counter() - begin
    violations = [_verified(system, finding, moves) for finding, moves in tally.findings.values()]
    if shortest:
        violations = [
            shrink(system, violation, max_states=max_states, progress=progress) for violation in violations
        ]
    return Result(
        strategy=strategy.name,
        bound=strategy.bound,
        states=len(tally.seen),
        steps=tally.steps,
        executions=tally.executions,
        cut=tally.cut,
        complete=tally.complete,
        seconds=seconds,
        finals=frozenset(tally.finals),
        violations=tuple(violations),
    )


def shrink(
    system: System[Any],
    violation: Violation,
    *,
    max_states: int | None = None,
    progress: Progress | None = None,
) -> Violation:
    """The shortest schedule that violates the same property, and of those one with the fewest preemptions.

    Found breadth first over everything that is shorter, so it is the shortest there is, not just a local
    one; if that takes more than `max_states` states, the given violation comes back.
    """
    tally = Tally(system, only=violation.violated, max_states=max_states, progress=progress)
    with _collecting_rarely():
        search_layers(system, tally, steps=len(violation.moves), count_preemptions=True)
    if violation.violated not in tally.findings:
        return violation
    finding, moves = tally.findings[violation.violated]
    return _verified(system, finding, moves)


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """A search keeps millions of tuples and makes no cycles; looking for some takes a quarter of its time."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _verified(system: System[Any], finding: str, moves: list[Move]) -> Violation:
    run = replay(system, moves)
    if finding not in run.findings:
        raise NondeterminismError(f"'{run.schedule}' was found to give {finding!r} and gave {run.findings}")
    _, _, message = finding.partition(": ")
    return Violation(property_of(finding), message, run.schedule, run.trace)
