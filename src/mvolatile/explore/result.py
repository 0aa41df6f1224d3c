"""What an exploration hands back: frozen, and complete enough to print, compare and replay."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from .schedule import Move, parse_schedule

__all__ = ["Result", "Run", "TraceStep", "Violation"]


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One step of a run. `preempts`: the actor that ran before could have gone on."""

    actor: str
    label: str
    reads: frozenset[Hashable]
    writes: frozenset[Hashable]
    preempts: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One execution, or the beginning of one.

    `states` has one more entry than `trace`. `findings` are all that is wrong with the last state, as the
    system put it; `final` tells that the last state enables nothing.
    """

    schedule: str
    trace: tuple[TraceStep, ...]
    states: tuple[Any, ...]
    final: bool
    findings: tuple[str, ...]

    @property
    def finding(self) -> str | None:
        """The first of the findings."""
        return self.findings[0] if self.findings else None

    @property
    def preemptions(self) -> int:
        """How many steps preempt."""
        return sum(step.preempts for step in self.trace)


@dataclass(frozen=True, slots=True)
class Violation:
    """A property, how it was violated, and the schedule that does it: replayed twice before it gets here."""

    violated: str
    message: str
    schedule: str
    trace: tuple[TraceStep, ...] = field(repr=False)

    @property
    def moves(self) -> list[Move]:
        """The schedule, read."""
        return parse_schedule(self.schedule)

    @property
    def preemptions(self) -> int:
        """How many of its steps preempt."""
        return sum(step.preempts for step in self.trace)

    def __str__(self) -> str:
        return f"{self.violated}: {self.message}\n  schedule: {self.schedule}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one strategy did with one system.

    `states` distinct states were visited; `steps` steps were taken (a step taken again counts again);
    `executions` runs were followed to a final state or to a state already known. `cut` counts the places
    where the bound stopped the search. `complete`: everything within `bound` was visited, so that without
    a violation the properties are proved within it, and proved outright if `cut` is 0. `finals` are the
    final states that were met.
    """

    strategy: str
    bound: str
    states: int
    steps: int
    executions: int
    cut: int
    complete: bool
    seconds: float
    finals: frozenset[Any] = field(repr=False)
    violations: tuple[Violation, ...] = ()

    @property
    def violation(self) -> Violation | None:
        """The first that was found."""
        return self.violations[0] if self.violations else None

    @property
    def holds(self) -> bool:
        """Nothing was found, in a search that left nothing out within its bound."""
        return self.complete and not self.violations

    @property
    def properties(self) -> frozenset[str]:
        """Names of the violated properties."""
        return frozenset(violation.violated for violation in self.violations)
