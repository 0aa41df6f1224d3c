"""What every strategy keeps while it searches: counts, findings, final states, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from .schedule import Move
from .system import Step, System, findings_of, property_of

__all__ = ["Progress", "Strategy", "Tally"]

Progress = Callable[[int, int], None]
"""Called now and then with the number of distinct states and of steps so far."""

PROGRESS_EVERY = 4096


class Tally:
    """The counts of one search. Not for use by several threads."""

    def __init__(
        self,
        system: System[Any],
        *,
        stop_at_first: bool = True,
        only: str | None = None,
        max_states: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.system = system
        self.stop_at_first = stop_at_first
        self.only = only
        self.max_states = max_states
        self.progress = progress
        self.steps = 0
        self.executions = 0
        self.cut = 0
        self.complete: bool = True
        self.finals: set[Any] = set()
        self.findings: dict[str, tuple[str, list[Move]]] = {}
        self.seen: dict[Any, tuple[str, ...]] = {}
        self._reported = 0

    def inspect(self, state: Any, enabled: Sequence[Step]) -> tuple[str, ...]:
        """Check a state, once; return all that is wrong with it."""
        try:
            return self.seen[state]
        except KeyError:
            pass
        findings = findings_of(self.system.check(state))
        if not enabled:
            self.finals.add(state)
            findings += findings_of(self.system.check_final(state))
        if findings and self.only is not None:
            findings = tuple(finding for finding in findings if property_of(finding) == self.only)
        self.seen[state] = findings
        return findings

    def note(self, findings: Iterable[str], path: Callable[[], list[Move]]) -> bool:
        """Remember findings, the first of each property; True when the search is to stop."""
        for finding in findings:
            violated = property_of(finding)
            if violated not in self.findings:
                self.findings[violated] = (finding, path())
            if self.stop_at_first:
                self.complete = False
                return True
        return False

    def pause(self) -> bool:
        """To be called about once a step: reports progress; True when the search has used up its states."""
        if self.steps - self._reported >= PROGRESS_EVERY:
            self._reported = self.steps
            if self.progress is not None:
                self.progress(len(self.seen), self.steps)
        if self.max_states is not None and len(self.seen) > self.max_states:
            self.complete = False
            return True
        return False


class Strategy(Protocol):
    """How to look for violations: the one interface behind which all strategies are siblings."""

    @property
    def name(self) -> str:
        """One word."""
        ...

    @property
    def bound(self) -> str:
        """What is left out, for people; 'none' if nothing is."""
        ...

    def search(self, system: System[Any], tally: Tally) -> None:
        """Look, and write down in `tally` what was seen."""
