"""Searching the races of the model: one of them in one variant, or many in several processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from time import perf_counter
from typing import Any

from ..explore import Exhaustive, ThreadedSystem, Violation, explore, replay, shrink
from ..explore.system import findings_of, property_of
from ..model.generate import generated
from ..model.litmus import Litmus
from ..model.properties import NO_DEADLOCK, NO_KERNEL_BUG, PROPERTIES
from ..model.races import LITMUS
from ..model.state import Kernel, World

SHRINK_STATES = 60_000


@dataclass(frozen=True, slots=True)
class Row:
    """One answer: does `property` hold for `variant` in the race, and if not, a schedule that shows it.

    `holds` is False only with a schedule; `bound` says within what it was searched, and begins with 'cut short'
    if the search gave up before it had seen everything.
    """

    race: str
    variant: str
    property: str
    holds: bool
    schedule: str | None
    states: int
    bound: str
    steps: int = 0
    seconds: float = 0.0
    message: str = ""

    def public(self) -> dict[str, Any]:
        """What --json prints."""
        fields = ("race", "variant", "property", "holds", "schedule", "states", "bound")
        row = asdict(self)
        return {name: row[name] for name in fields}


def litmus_named(name: str) -> Litmus:
    """A race by name, or ``generated-N``; `ValueError` lists the names there are."""
    if name in LITMUS:
        return LITMUS[name]
    kind, _, number = name.partition("-")
    if kind == "generated" and number.isdigit():
        return generated(int(number))
    raise ValueError(f"no race {name!r}; there are {', '.join(LITMUS)}, and generated-0, generated-1, ...")


def system_for(litmus: Litmus, variant: str, *, early: bool = False) -> ThreadedSystem[World]:
    """The race as a system for the explorer.

    Findings are remembered in the world, so asking in final states is enough to find them, and lets the reduction
    do its best. `early`: ask in every state, to end a schedule at its violation.
    """
    k = litmus.kernel(variant)
    return ThreadedSystem(
        litmus.world(k),
        litmus.programs(k),
        check=partial(_check, litmus, k) if early else None,
        check_final=partial(_check_final, litmus, k),
        watches=frozenset(k.watched) if early else None,
    )


def _check(litmus: Litmus, k: Kernel, world: World) -> tuple[str, ...]:
    return litmus.check(k, world, False)


def _check_final(litmus: Litmus, k: Kernel, world: World, outcomes: Any) -> tuple[str, ...]:
    return litmus.check(k, world, True)


def examine(
    race: str,
    variant: str,
    properties: Sequence[str] = (),
    *,
    preemptions: int | None = None,
    max_states: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Search one race in one variant: a row for each property that is violated, or one row that says it holds."""
    litmus = litmus_named(race)
    wanted = tuple(properties) or (*PROPERTIES, NO_KERNEL_BUG, NO_DEADLOCK)
    begin = perf_counter()
    result = explore(
        system_for(litmus, variant),
        Exhaustive(preemptions=preemptions),
        stop_at_first=False,
        max_states=max_states,
        progress=progress,
    )
    bound = litmus.bound + ("" if preemptions is None else f", at most {preemptions} preemptions")
    if not result.complete:
        bound = f"cut short at {result.states} states; {bound}"
    row = partial(
        Row,
        race,
        variant,
        states=result.states,
        bound=bound,
        steps=result.steps,
        seconds=perf_counter() - begin,
    )
    rows = []
    violations = without_consequences(litmus, variant, result.violations)
    for found in sorted(violations, key=lambda violation: violation.violated != litmus.asks):
        if found.violated in wanted:
            shown = shortest(litmus, variant, found)
            rows.append(
                row(
                    found.violated,
                    False,
                    schedule=f"{variant}/{race}: {shown.schedule}",
                    message=shown.message,
                )
            )
    if not rows:
        asked = litmus.asks if litmus.asks in wanted else ", ".join(wanted)
        rows.append(row(asked, result.complete, schedule=None))
    return rows


def without_consequences(litmus: Litmus, variant: str, violations: Iterable[Violation]) -> list[Violation]:
    """Leave out what is wrong only because a processor has crashed by then: its locks are held for ever."""
    return [
        violation
        for violation in violations
        if violation.violated == NO_KERNEL_BUG or not _crashes(system_for(litmus, variant), violation)
    ]


def _crashes(system: ThreadedSystem[World], violation: Violation) -> bool:
    run = replay(system, violation.schedule)
    return any(
        property_of(finding) == NO_KERNEL_BUG
        for state in run.states
        for finding in findings_of(system.check(state))
    )


def shortest(litmus: Litmus, variant: str, violation: Violation) -> Violation:
    """The schedule cut where the violation shows, and made as short as a bounded search can."""
    system = system_for(litmus, variant, early=True)
    moves = violation.moves
    state = system.initial()
    for at, (actor, _) in enumerate(moves):
        if violation.violated in map(property_of, findings_of(system.check(state))):
            moves = moves[:at]
            break
        state = system.apply(state, next(step for step in system.enabled(state) if step.actor == actor))
    run = replay(system, moves)
    cut = [
        Violation(violation.violated, finding.partition(": ")[2], run.schedule, run.trace)
        for finding in findings_of(system.check(run.states[-1]))
        if property_of(finding) == violation.violated
    ]
    return shrink(system, cut[0], max_states=SHRINK_STATES) if cut else violation


def examine_all(
    jobs: Iterable[tuple[str, str]], *, processes: int, quiet: bool, **options: Any
) -> Iterator[list[Row]]:
    """Examine (race, variant) pairs, several at once, and hand the rows over in the order of the pairs."""
    pairs = list(jobs)
    if processes == 1:
        with _progress(len(pairs), quiet) as advance:
            for race, variant in pairs:
                rows = examine(race, variant, **options)
                advance(rows[0].states, rows[0].steps, rows[0].seconds)
                yield rows
        return
    context = get_context("spawn")  # a fork would copy the progress bar's thread and its locks
    with (
        _progress(len(pairs), quiet) as advance,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        futures = [pool.submit(examine, race, variant, **options) for race, variant in pairs]
        for future in as_completed(futures):
            rows = future.result()
            advance(rows[0].states, rows[0].steps, rows[0].seconds)
        for future in futures:
            yield future.result()


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int, int, float], None]]:
    """A bar on standard error with states per second, where there is a terminal and rich is installed."""
    if quiet or not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield lambda states, steps, seconds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    seen = {"states": 0, "seconds": 0.0}
    columns = (
        TextColumn("searching"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(states: int, steps: int, seconds: float) -> None:
            seen["states"] += states
            seen["seconds"] += seconds
            rate = seen["states"] / seen["seconds"] if seen["seconds"] else 0
            bar.update(task, advance=1, rate=f"{seen['states']:,} states, {rate:,.0f}/s each")

        yield advance
