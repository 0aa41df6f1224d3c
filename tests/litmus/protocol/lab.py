"""Litmus tests of the library's protocols: programs, a reclaimer for every page, and what may come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mvolatile.explore import Result, ThreadedSystem
from mvolatile.model.stock import programs
from mvolatile.model.stock.machine import CHILD, Broken, Config, Task, machine

Program = tuple[Any, Mapping[str, Any]]


def do(program: Any, **arguments: Any) -> Program:
    return program, arguments


@dataclass(frozen=True)
class Litmus:
    """Threads over one range that holds version 1 in every page and is volatile; `fresh`: never written instead.

    Every page is purged at most `purges` times in each process. `outcomes` is all that the threads may end with.
    """

    name: str
    config: Config
    threads: Mapping[str, Program]
    outcomes: Mapping[str, set[Any]] = field(default_factory=dict)
    purges: int = 1
    fresh: bool = False
    stress: bool = False

    def broken(self, switch: str) -> Litmus:
        return replace(self, config=replace(self.config, broken=Broken(**{switch: True})))

    def system(self) -> ThreadedSystem[Any]:
        m = machine(self.config)
        world = m.initial() if self.fresh else programs.prepared(m)
        threads = {}
        for name, (program, arguments) in self.threads.items():
            # The child's one thread is the one that forked.
            task = Task(m, "forker", CHILD) if program is programs.child else Task(m, name)
            threads[name] = partial(program, task, **arguments)
        daemons = {}
        for mm, prefix in enumerate(("reclaim", "reclaim-child")[: 1 + (self.config.child_tier is not None)]):
            for page in range(self.config.pages):
                task = Task(m, f"{prefix}{page}", mm)
                daemons[task.name] = partial(programs.reclaim, task, page=page, times=self.purges)
        if self.config.signals:
            daemons["signal"] = partial(programs.interrupt, Task(m, "signal"))
        return ThreadedSystem(world, {**threads, **daemons}, daemons=tuple(daemons), watches=frozenset())


def outcomes(system: ThreadedSystem[Any], result: Result) -> dict[str, set[Any]]:
    """What each thread ended with, over all final states."""
    found: dict[str, set[Any]] = {}
    for state in result.finals:
        for name, outcome in system.outcomes(state).items():
            if outcome is not None:
                found.setdefault(name, set()).add(outcome)
    return found
