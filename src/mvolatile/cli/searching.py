"""Searching one race of the model in one variant, and putting what was found into rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from ..explore import (
    Exhaustive,
    Result,
    ThreadedSystem,
    Violation,
    explore,
    parse_schedule,
    replay,
    shrink,
)
from ..explore.system import Answer, findings_of, property_of
from ..model.generate import generated
from ..model.litmus import Litmus
from ..model.properties import NO_DEADLOCK, NO_KERNEL_BUG, PROPERTIES
from ..model.races import LITMUS
from ..model.state import Kernel, World
from ..model.variants import VARIANTS

SHRINK_STATES = 60_000
EVERY_PROPERTY = (*PROPERTIES, NO_KERNEL_BUG, NO_DEADLOCK)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One answer: does `property` hold for `variant` in the race?

    `holds` is True only when it was proved within `bound`, and False otherwise: violated if there is a `schedule` that
    shows it, else undecided, because the search gave up before it had seen everything; `bound` then begins with 'cut
    short'.
    """

    race: str
    variant: str
    property: str
    holds: bool
    schedule: str | None
    states: int
    bound: str
    message: str = ""

    def public(self) -> dict[str, Any]:
        """What --json prints."""
        row = asdict(self)
        del row["message"]
        return row


def litmus_named(name: str) -> Litmus:
    """A race by name, or ``generated-N``; `ValueError` lists the names there are."""
    if name in LITMUS:
        return LITMUS[name]
    kind, _, number = name.partition("-")
    if kind == "generated" and number.isdigit():
        return generated(int(number))
    raise ValueError(f"no race {name!r}; there are {', '.join(LITMUS)}, and generated-0, generated-1, ...")


def read_schedule(text: str) -> tuple[str, str, list[str]]:
    """Variant, race and the processors in turn, of a schedule as it was printed."""
    head, _, schedule = text.partition(":")
    variant, _, race = head.strip().partition("/")
    if variant not in VARIANTS:
        raise ValueError(f"a schedule reads 'variant/race: cpu0*3 kswapd ...'; no variant {variant!r}")
    if not race:
        raise ValueError("a schedule reads 'variant/race: cpu0*3 kswapd ...'; the race is missing")
    moves = parse_schedule(schedule)
    if chosen := [f"{cpu}.{choice}" for cpu, choice in moves if choice]:
        raise ValueError(f"{chosen[0]}: a processor has one next step, and no choice")
    return variant, race, [cpu for cpu, _ in moves]


class _UntilTheCrash(ThreadedSystem[World]):
    """A race in which nothing counts that happens after a processor has crashed: its locks are held for ever."""

    def check(self, state: tuple[int, ...]) -> tuple[str, ...]:
        """The crash, or else what is wrong."""
        findings = super().check(state)
        return _crash(findings) or findings

    def check_final(self, state: tuple[int, ...]) -> Answer:
        """Nothing more, after a crash."""
        return None if _crash(super().check(state)) else super().check_final(state)


def _crash(findings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(finding for finding in findings if property_of(finding) == NO_KERNEL_BUG)


def system_for(litmus: Litmus, variant: str, *, early: bool = False) -> ThreadedSystem[World]:
    """The race as a system for the explorer.

    Findings are remembered in the world, so asking in final states is enough to find them, and lets the reduction
    do its best. `early`: ask in every state, and not beyond a crash, to end a schedule at its violation; not to be
    reduced, since a crash hides what other processors do.
    """
    k = litmus.kernel(variant)
    kind = _UntilTheCrash if early else ThreadedSystem
    return kind(
        litmus.world(k),
        litmus.programs(k),
        check=partial(_check, litmus, k) if early else None,
        check_final=partial(_check_final, litmus, k),
    )


def _check(litmus: Litmus, k: Kernel, world: World) -> tuple[str, ...]:
    return litmus.check(k, world, False)


def _check_final(litmus: Litmus, k: Kernel, world: World, outcomes: Any) -> tuple[str, ...]:
    return litmus.check(k, world, True)


def search(
    litmus: Litmus,
    variant: str,
    *,
    preemptions: int | None = None,
    max_states: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Everything that is wrong with a variant in a race, but for what goes wrong only after a crash."""
    options: dict[str, Any] = {"stop_at_first": False, "max_states": max_states, "progress": progress}
    result = explore(system_for(litmus, variant), Exhaustive(preemptions=preemptions), **options)
    if NO_KERNEL_BUG in result.properties and len(result.properties) > 1:
        plain = Exhaustive(preemptions=preemptions, reduce=False)
        result = explore(system_for(litmus, variant, early=True), plain, **options)
    return result


def examine(
    race: str,
    variant: str,
    properties: Sequence[str] = (),
    *,
    preemptions: int | None = None,
    max_states: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Search one race in one variant: a row for each wanted property (default: all), the race's question first."""
    litmus = litmus_named(race)
    wanted = sorted(properties or EVERY_PROPERTY, key=lambda name: name != litmus.asks)
    result = search(litmus, variant, preemptions=preemptions, max_states=max_states, progress=progress)
    bound = litmus.bound + ("" if preemptions is None else f", at most {preemptions} preemptions")
    if not result.complete:
        bound = f"cut short at {result.states} states; {bound}"
    row = partial(Row, race, variant, states=result.states, bound=bound)
    found = {violation.violated: violation for violation in result.violations}
    rows = []
    for name in wanted:
        if name in found:
            shown = shortest(litmus, variant, found[name])
            schedule = f"{variant}/{race}: {shown.schedule}"
            rows.append(row(name, False, schedule, message=shown.message))
        else:
            rows.append(row(name, result.complete, None))
    return rows


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
