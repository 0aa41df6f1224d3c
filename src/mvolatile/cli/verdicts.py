"""What ``model check`` and ``model races`` print of their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby, zip_longest

from ..model import drawing
from ..model.trace import follow
from .searching import Row, litmus_named, read_schedule


def print_json(rows: Sequence[Row]) -> None:
    """A list of objects."""
    print(json.dumps([row.public() for row in rows], indent=1))


def print_rows(rows: Sequence[Row], *, all_of_them: bool) -> None:
    """A line for each row; where nobody asked for properties by name, one line for a race that has no violation."""
    for _, group in groupby(rows, key=lambda row: (row.race, row.variant)):
        found = list(group)
        shown = found if all_of_them else [row for row in found if row.schedule] or found[:1]
        for row in shown:
            what = row.property if all_of_them or row.schedule else f"all {len(found)} properties"
            size = f"{row.states:,} states; {row.bound}"
            verdict = "holds" if row.holds else "VIOLATED" if row.schedule else "undecided"
            print(f"{verdict:10} {row.variant:8} {row.race}: {what} ({size})")
            if row.schedule:
                print(f"           {row.message}\n           {row.schedule}")


def print_races(
    names: Sequence[str], variants: Sequence[str], answers: Mapping[tuple[str, str], Sequence[Row]]
) -> None:
    """A table: races down, variants across, what is violated in the cells, and the bounds below."""
    bounds = {name: litmus_named(name).bound for name in names}
    notes = list(dict.fromkeys(bounds.values()))
    lines = [["race", *variants, "bound"]]
    for name in names:
        cells = [_cell(answers[name, variant]) for variant in variants]
        columns = [[name], *cells, [f"[{notes.index(bounds[name]) + 1}]"]]
        lines += [list(line) for line in zip_longest(*columns, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


def _cell(rows: Sequence[Row]) -> list[str]:
    violated = [f"not {row.property}" for row in rows if row.schedule]
    if all(row.holds or row.schedule for row in rows):
        return violated or [f"holds ({rows[0].states:,} states)"]
    return [*violated, f"undecided ({rows[0].states:,} states)"]


def print_first(rows: Sequence[Row]) -> None:
    """The schedule that most deserves to be seen: in a program that nobody aimed, a lost report, and short."""
    found = [row for row in rows if row.schedule]
    if not found:
        return

    def rank(row: Row) -> tuple[bool, bool, int]:
        length = len(read_schedule(row.schedule or "")[2])
        return not row.race.startswith("generated-"), row.property != "no_lost_report", length

    row = min(found, key=rank)
    litmus = litmus_named(row.race)
    _, _, cpus = read_schedule(row.schedule or "")
    print(f"\n{row.property} is violated in {row.race}: {litmus.question}\n")
    print(drawing.text(follow(litmus, row.variant, cpus), list(litmus.threads)))
    print(f"\nagain: mvolatile model replay '{row.schedule}'")
