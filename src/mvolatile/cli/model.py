"""``mvolatile model check|races|replay``: the patch as an executable model, searched and replayed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from ..explore import parse_schedule
from ..model import drawing
from ..model.properties import NO_DEADLOCK, NO_KERNEL_BUG, PROPERTIES
from ..model.races import LITMUS
from ..model.trace import follow
from ..model.variants import VARIANTS
from .searching import Row, examine_all, litmus_named

TABLE = ("posted", "v14", "fixed")
GENERATED = range(8)
"""The generated programs that `races` searches besides the named races."""


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
