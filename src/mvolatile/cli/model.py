"""``mvolatile model check|races|replay``: the patch as an executable model, searched and replayed."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from ..model import drawing
from ..model.races import LITMUS
from ..model.trace import follow
from ..model.variants import VARIANTS
from .searching import EVERY_PROPERTY, Row, litmus_named, read_schedule
from .verdicts import print_first, print_json, print_races, print_rows
from .workers import examine_all

TABLE = ("posted", "v14", "fixed")
GENERATED = range(8)
"""The generated programs that `races` searches besides the named races."""
STATUS = (
    "exit status: 0 if all holds, 1 if something is violated, 3 if a search gave up before it could tell,"
    " 2 for misuse"
)


def check(args: argparse.Namespace) -> int:
    """``model check``: do the properties hold?"""
    pairs = [(race, variant) for variant in args.variant or ["fixed"] for race in args.race or LITMUS]
    answers = examine_all(
        pairs,
        processes=args.jobs,
        quiet=args.json,
        properties=tuple(args.property or ()),
        preemptions=args.bound,
        max_states=args.max_states,
    )
    rows = [row for found in answers for row in found]
    if args.json:
        print_json(rows)
    else:
        print_rows(rows, all_of_them=bool(args.property))
    return _status(rows)


def races(args: argparse.Namespace) -> int:
    """``model races``: every race and some generated programs, in the patch as mailed, in v14, and fixed."""
    begin = perf_counter()
    names = args.race or [*LITMUS, *(f"generated-{number}" for number in GENERATED)]
    variants = args.variant or list(TABLE)
    pairs = [(race, variant) for race in names for variant in variants]
    answers = list(examine_all(pairs, processes=args.jobs, quiet=args.json, max_states=args.max_states))
    rows = [row for found in answers for row in found]
    if args.json:
        print_json(rows)
    else:
        print_races(names, variants, dict(zip(pairs, answers, strict=True)))
        print_first(rows)
        seconds = perf_counter() - begin
        states = sum(found[0].states for found in answers)
        print(f"\n{states:,} states in {seconds:.1f} s, with {args.jobs} processes.")
    return _status([row for row in rows if row.variant == "fixed"] or rows)


def replay_schedule(args: argparse.Namespace) -> int:
    """``model replay``: one schedule, drawn."""
    try:
        variant, race, cpus = read_schedule(args.schedule)
        litmus = litmus_named(race)
        events = follow(litmus, variant, cpus)
        lanes = list(litmus.threads)
        title = f"{race}, {variant}"
        if args.svg:
            Path(args.svg).write_text(drawing.svg(events, lanes, title), encoding="utf-8")
        if args.html:
            page = drawing.html(events, lanes, title, litmus.question, args.schedule)
            Path(args.html).write_text(page, encoding="utf-8")
    except (ValueError, OSError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"mvolatile model replay: {why}", file=sys.stderr)
        return 2
    wrong = [event.wrong for event in events if event.wrong]
    if args.json:
        print(json.dumps([asdict(event) for event in events], indent=1))
    else:
        print(f"{title}: {litmus.question}\n")
        print(drawing.text(events, lanes))
        print("\n" + ("\n".join(f"violated: {found}" for found in wrong) or "nothing is violated so far"))
    return 1 if wrong else 0


def _status(rows: Sequence[Row]) -> int:
    if any(row.schedule for row in rows):
        return 1
    return 0 if all(row.holds for row in rows) else 3


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
        commands.add_parser("check", help="do the properties hold?", epilog=STATUS),
        check,
        "fixed",
        with_properties=True,
    )
    _add_search(
        commands.add_parser(
            "races",
            help="the table of races: the patch as mailed, v14, and fixed",
            epilog=f"{STATUS}; only 'fixed' counts, if it is among the variants",
        ),
        races,
        ", ".join(TABLE),
    )
    again = commands.add_parser(
        "replay",
        help="draw a schedule, one lane for each processor",
        epilog="exit status: 0 if nothing is violated, 1 if something is, 2 for misuse",
    )
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
    parser.add_argument(
        "--race", action="append", type=_race, metavar="NAME", help="default: all; also generated-N"
    )
    if with_properties:
        parser.add_argument(
            "--property",
            action="append",
            choices=EVERY_PROPERTY,
            metavar="NAME",
            help=f"{', '.join(EVERY_PROPERTY)} (default: all)",
        )
        parser.add_argument(
            "--bound", type=_at_least(0), metavar="N", help="at most N preemptions (default: no bound)"
        )
    parser.add_argument(
        "--max-states",
        type=_at_least(1),
        default=400_000,
        metavar="N",
        help="give up after N states (default %(default)s)",
    )
    parser.add_argument(
        "--jobs", type=_at_least(1), default=2, metavar="N", help="processes (default %(default)s)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a list of objects, one for each race, variant and property"
    )
    parser.set_defaults(func=run)


def _race(name: str) -> str:
    try:
        litmus_named(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of {least} or more")
        return int(text)

    return number
