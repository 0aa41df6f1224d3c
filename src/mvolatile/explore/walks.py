"""Strategies that run one schedule after another: random choice, and PCT.

They prove nothing and need no memory, and reach depths where the exhaustive search has no hope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random as Generator
from typing import Any, Protocol

from .schedule import Move, located, move_at
from .system import Step, System
from .tally import Tally

__all__ = ["PCT", "Random"]


class Chooser(Protocol):
    """Which of the enabled steps comes next."""

    def choose(self, enabled: Sequence[Step]) -> int:
        """An index into `enabled`."""
        ...


@dataclass(frozen=True, slots=True)
class Random:
    """Each enabled step is as likely as any other, independently, in each of `runs` runs.

    Run r depends on `seed` and r alone. A run is cut after `steps` steps.
    """

    seed: int = 0
    runs: int = 1000
    steps: int = 10_000

    @property
    def name(self) -> str:
        """One word."""
        return "random"

    @property
    def bound(self) -> str:
        """What is left out."""
        return f"{self.runs} runs, seed {self.seed}"

    def search(self, system: System[Any], tally: Tally) -> None:
        """Look, and write down in `tally` what was seen."""
        tally.complete = False
        for run in range(self.runs):
            if _walk(system, tally, _Even(Generator(f"{self.seed}:{run}")), self.steps)[1]:
                return


class _Even:
    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def choose(self, enabled: Sequence[Step]) -> int:
        return self._generator.randrange(len(enabled))


@dataclass(frozen=True, slots=True)
class PCT:
    """Probabilistic concurrency testing: random priorities, lowered at ``depth - 1`` random places.

    The enabled actor with the highest priority runs. A bug of depth d is one that d ordering constraints
    suffice to bring about; with n actors and at most k steps, each run finds it with a chance of at least
    1 / (n k^(d-1)), whatever the program (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized
    Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010). For k the longest run so far is
    taken.

    Run r depends on `seed`, r, and the lengths of the runs before it. A run is cut after `steps` steps.
    """

    seed: int = 0
    depth: int = 3
    runs: int = 1000
    steps: int = 10_000

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth is at least 1, not {self.depth}")

    @property
    def name(self) -> str:
        """One word."""
        return "pct"

    @property
    def bound(self) -> str:
        """What is left out."""
        return f"{self.runs} runs, depth {self.depth}, seed {self.seed}"

    def search(self, system: System[Any], tally: Tally) -> None:
        """Look, and write down in `tally` what was seen."""
        tally.complete = False
        longest = 1
        for run in range(self.runs):
            chooser = _Priorities(Generator(f"{self.seed}:{run}"), system.actors, self.depth, longest)
            length, stop = _walk(system, tally, chooser, self.steps)
            longest = max(longest, length)
            if stop:
                return


class _Priorities:
    def __init__(self, generator: Generator, actors: Sequence[str], depth: int, length: int) -> None:
        ranks = list(range(depth, depth + len(actors)))
        generator.shuffle(ranks)
        self._generator = generator
        self._rank = dict(zip(actors, ranks, strict=True))
        self._lower = {generator.randrange(length): rank for rank in range(depth - 1, 0, -1)}
        self._count = 0

    def choose(self, enabled: Sequence[Step]) -> int:
        # The place of a change is *before* a step: whoever would take it is lowered first.
        rank = self._rank
        while True:
            first = max(enabled, key=lambda step: rank[step.actor]).actor
            lower = self._lower.pop(self._count, None)
            if lower is None:
                break
            rank[first] = lower
        self._count += 1
        own = [at for at, step in enumerate(enabled) if step.actor == first]
        return own[0] if len(own) == 1 else self._generator.choice(own)


def _walk(system: System[Any], tally: Tally, chooser: Chooser, limit: int) -> tuple[int, bool]:
    """Follow one schedule to its end; its length, and whether the search is to stop."""
    path: list[Move] = []
    state = system.initial()
    with located(lambda: path):
        while True:
            enabled = system.enabled(state)
            findings = tally.inspect(state, enabled)
            if findings and tally.note(findings, path.copy):
                return len(path), True
            if tally.pause():
                return len(path), True
            if not enabled:
                tally.executions += 1
                return len(path), False
            if len(path) == limit:
                tally.cut += 1
                return limit, False
            at = chooser.choose(enabled)
            path.append(move_at(enabled, at))
            state = system.apply(state, enabled[at])
            tally.steps += 1
