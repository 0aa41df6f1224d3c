"""Running one schedule again, and proving that the second run is the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import NondeterminismError
from .result import Run, TraceStep
from .schedule import Move, choice_at, format_schedule, parse_schedule
from .system import Repeatable, System, findings_of

__all__ = ["replay"]


def replay(system: System[Any], schedule: str | Iterable[Move]) -> Run:
    """Run a schedule twice, the second time on a fresh copy if the system can give one, and compare.

    `ValueError` if the schedule does not fit this system, with the first move that does not;
    `NondeterminismError` if the two runs differ in a step, a state or a finding.
    """
    moves = parse_schedule(schedule) if isinstance(schedule, str) else list(schedule)
    first = _run(system, moves)
    again = system.fresh() if isinstance(system, Repeatable) else system
    try:
        second = _run(again, moves)
    except ValueError as error:
        raise NondeterminismError(
            f"the second run of '{first.schedule}' went another way: {error}"
        ) from error
    for at, (one, two) in enumerate(zip(first.trace, second.trace, strict=True), 1):
        if one != two:
            raise NondeterminismError(f"step {at} of '{first.schedule}' was {one}, and {two} when run again")
    for at, (one, two) in enumerate(zip(_views(system, first), _views(again, second), strict=True)):
        if one != two:
            raise NondeterminismError(
                f"the state after step {at} of '{first.schedule}' differed when run again"
            )
    if (first.findings, first.final) != (second.findings, second.final):
        raise NondeterminismError(
            f"'{first.schedule}' gave {first.findings}, and {second.findings} when run again"
        )
    return first


def _views(system: System[Any], run: Run) -> list[Any]:
    return (
        [system.view(state) for state in run.states] if isinstance(system, Repeatable) else list(run.states)
    )


def _run(system: System[Any], moves: list[Move]) -> Run:
    state = system.initial()
    enabled = system.enabled(state)
    states = [state]
    trace: list[TraceStep] = []
    last: str | None = None
    for number, move in enumerate(moves, 1):
        at = choice_at(enabled, move)
        if at < 0:
            offered = (
                ", ".join(f"{step.actor} ({step.label})" for step in enabled) or "nothing: the run has ended"
            )
            raise ValueError(
                f"move {number}, {format_schedule([move])}, is not possible here; possible: {offered}"
            )
        step = enabled[at]
        preempts = step.actor != last and any(other.actor == last for other in enabled)
        trace.append(TraceStep(step.actor, step.label, step.reads, step.writes, preempts))
        last = step.actor
        state = system.apply(state, step)
        states.append(state)
        enabled = system.enabled(state)
    findings = findings_of(system.check(state), None if enabled else system.check_final(state))
    return Run(format_schedule(moves), tuple(trace), tuple(states), not enabled, findings)
