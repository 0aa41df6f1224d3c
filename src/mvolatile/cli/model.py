"""``mvolatile model check|races|replay``: the patch as an executable model, searched and replayed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from ..explore import Exhaustive, ThreadedSystem, Violation, explore, parse_schedule, replay, shrink
from ..explore.system import findings_of, property_of
from ..model import drawing
from ..model.generate import generated
from ..model.litmus import Litmus
from ..model.properties import NO_DEADLOCK, NO_KERNEL_BUG, PROPERTIES
from ..model.races import LITMUS
from ..model.state import Kernel, World
from ..model.trace import follow
from ..model.variants import VARIANTS

SHRINK_STATES = 60_000
TABLE = ("posted", "v14", "fixed")
GENERATED = range(8)
"""The generated programs that `races` searches besides the named races."""


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


# The commands


def check(args: argparse.Namespace) -> int:
    """``model check``: do the properties hold?"""
    races = args.race or list(LITMUS)
    rows = [
        row
        for found in examine_all(
            [(race, variant) for variant in args.variant or ["fixed"] for race in races],
            processes=args.jobs,
            quiet=args.json,
            properties=tuple(args.property or ()),
            preemptions=args.bound,
            max_states=args.max_states,
        )
        for row in found
    ]
    _print_rows(rows, args.json)
    return 0 if all(row.holds for row in rows) else 1


def races(args: argparse.Namespace) -> int:
    """``model races``: every race and some generated programs, in the patch as mailed, in v14, and fixed."""
    begin = perf_counter()
    names = args.race or [*LITMUS, *(f"generated-{number}" for number in GENERATED)]
    variants = args.variant or list(TABLE)
    answers = list(
        examine_all(
            [(race, variant) for race in names for variant in variants],
            processes=args.jobs,
            quiet=args.json,
            max_states=args.max_states,
        )
    )
    rows = [row for found in answers for row in found]
    if args.json:
        _print_rows(rows, True)
    else:
        _print_table(names, variants, answers)
        _print_first(rows)
        seconds = perf_counter() - begin
        states = sum(found[0].states for found in answers)
        print(f"\n{states:,} states in {seconds:.1f} s, with {args.jobs} processes.")
    return 0 if all(row.holds for row in rows if row.variant == "fixed") else 1


def replay_schedule(args: argparse.Namespace) -> int:
    """``model replay``: one schedule, drawn."""
    try:
        head, _, schedule = args.schedule.partition(":")
        variant, _, race = head.strip().partition("/")
        if variant not in VARIANTS:
            raise ValueError(f"a schedule reads 'variant/race: cpu0*3 kswapd ...'; no variant {variant!r}")
        litmus = litmus_named(race)
        events = follow(litmus, variant, [actor for actor, _ in parse_schedule(schedule)])
    except ValueError as error:
        print(f"mvolatile model replay: {error}", file=sys.stderr)
        return 2
    cpus = list(litmus.threads)
    title = f"{race}, {variant}"
    wrong = events[-1].wrong if events else None
    if args.svg:
        Path(args.svg).write_text(drawing.svg(events, cpus, title), encoding="utf-8")
    if args.html:
        page = drawing.html(events, cpus, title, litmus.question, args.schedule)
        Path(args.html).write_text(page, encoding="utf-8")
    if args.json:
        print(json.dumps([asdict(event) for event in events], indent=1))
    else:
        print(f"{title}: {litmus.question}\n")
        print(drawing.text(events, cpus))
        print(f"\nviolated: {wrong}" if wrong else "\nnothing is violated so far")
    return 1 if wrong else 0


def _print_rows(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print(json.dumps([row.public() for row in rows], indent=1))
        return
    for row in rows:
        verdict = "holds" if row.holds else "VIOLATED" if row.schedule else "undecided"
        print(f"{verdict:10} {row.variant:8} {row.race}: {row.property} ({row.states:,} states; {row.bound})")
        if row.schedule:
            print(f"           {row.message}\n           {row.schedule}")


def _print_table(names: Sequence[str], variants: Sequence[str], answers: Sequence[list[Row]]) -> None:
    width = max(map(len, names))
    print(f"{'race':{width}}  " + "".join(f"{variant:30}" for variant in variants))
    for at, name in enumerate(names):
        cells = [_verdict(answers[at * len(variants) + column]) for column in range(len(variants))]
        print(f"{name:{width}}  " + "".join(f"{cell:30}" for cell in cells).rstrip())


def _verdict(rows: list[Row]) -> str:
    if rows[0].schedule:
        more = f" +{len(rows) - 1}" if len(rows) > 1 else ""
        return f"not {rows[0].property}{more}"
    return f"holds ({rows[0].states:,})" if rows[0].holds else f"undecided ({rows[0].states:,})"


def _print_first(rows: Sequence[Row]) -> None:
    """The schedule that most deserves to be seen: in a program that nobody aimed, a lost report, and short."""
    found = [row for row in rows if row.schedule]
    if not found:
        return

    def rank(row: Row) -> tuple[bool, bool, int]:
        length = len(parse_schedule((row.schedule or "").partition(":")[2]))
        return not row.race.startswith("generated-"), row.property != "no_lost_report", length

    row = min(found, key=rank)
    litmus = litmus_named(row.race)
    moves = parse_schedule((row.schedule or "").partition(":")[2])
    print(f"\n{row.property} is violated in {row.race}: {litmus.question}\n")
    print(drawing.text(follow(litmus, row.variant, [actor for actor, _ in moves]), list(litmus.threads)))
    print(f"\nagain: mvolatile model replay '{row.schedule}'")


# The parser


def add_parser(subparsers: Any) -> None:
    """Add ``model`` and its commands."""
    model = subparsers.add_parser(
        "model",
        help="the kernel patch as an executable model: search it, replay a schedule",
        description="The mvolatile patch of 2014 as an executable model, and an explorer of its interleavings.",
    )
    commands = model.add_subparsers(dest="model_command", required=True, metavar="COMMAND")
    _add_search(
        commands.add_parser("check", help="do the properties hold? (exit status 1 if not)"),
        check,
        "fixed",
        with_properties=True,
    )
    _add_search(
        commands.add_parser("races", help="the table of races: the patch as mailed, v14, and fixed"),
        races,
        ", ".join(TABLE),
    )
    again = commands.add_parser("replay", help="draw a schedule, one lane for each processor")
    again.add_argument("schedule", help="as printed by check and races: 'variant/race: cpu0*3 kswapd ...'")
    again.add_argument("--svg", metavar="FILE", help="write a drawing")
    again.add_argument("--html", metavar="FILE", help="write a page for a bug report")
    again.add_argument("--json", action="store_true", help="print the steps as JSON")
    again.set_defaults(func=replay_schedule)


def _add_search(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    default: str,
    with_properties: bool = False,
) -> None:
    parser.add_argument(
        "--variant", action="append", choices=list(VARIANTS), metavar="NAME", help=f"default: {default}"
    )
    parser.add_argument("--race", action="append", metavar="NAME", help="default: all; also generated-N")
    if with_properties:
        names = [*PROPERTIES, NO_KERNEL_BUG, NO_DEADLOCK]
        parser.add_argument("--property", action="append", choices=names, metavar="NAME", help="default: all")
        parser.add_argument(
            "--bound", type=int, metavar="N", help="at most N preemptions (default: no bound)"
        )
    parser.add_argument("--max-states", type=int, default=400_000, metavar="N", help="give up after N states")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.set_defaults(func=run)
