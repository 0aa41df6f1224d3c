"""docs/kernels.md, written from the results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .matrix import AXES
from .results import RUNNING, Result, reasons

__all__ = ["write"]

_HEAD = """# Kernels

Written by `make kernels`; do not edit. Each row is one run of the contract's tests, of the facts about the kernel that
the library relies on, of how it reads the kernel and of the [restrictions of containers](containers.md), under the
conditions that the row names, read back from the kernel before the tests begin. Rows are chosen so that any two
conditions meet at least once on each kernel. Debian's cloud kernels run under QEMU without hardware acceleration, each
row a boot of its own with {memory}; *running* is the kernel of the machine that wrote this table, in whatever
conditions it has. Seconds compare rows of one run at best: emulation takes what processor is left.

*Tests* are those passed / failed / skipped; *commit* is the code that ran, with a `+` where files differed from it.

Debian's kernels from 6.12 on have no memory controller for cgroup v1 (`CONFIG_MEMCG_V1` is off), and so no rows of v1.
Under emulation the tests that take minutes there are left out (`TOO_LONG` in `tools/kernels/guest/run.py`),
and properties are tried on 20 examples.

The results are kept in `docs/kernels.json`, from which this page is written. `python -m tools.kernels --missing` runs
what is not good yet, or whose code has changed since; with `--any-commit`, a good row of the same release stays.
`--help` says how to choose.
"""


def write(path: Path, results: Iterable[Result], megabytes: int) -> None:
    """Write the page."""
    ordered = sorted(
        results, key=lambda one: [int(part) if part.isdigit() else 99 for part in one.series.split(".")]
    )
    text = [
        _HEAD.format(memory=f"{megabytes} MiB and 2 processors"),
        *_rows(ordered),
        *_failures(ordered),
        *_skips(ordered),
    ]
    path.write_text("\n".join(text).rstrip() + "\n")


def _rows(results: list[Result]) -> list[str]:
    titles = ["kernel", *AXES, "result", "tests", "seconds", "date", "commit"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for one in results:
        name = f"{one.kernel} (running)" if one.series == RUNNING else one.kernel
        outcome = "good" if one.good else one.error or "**failed**"
        conditions = [one.cell.get(axis, "") for axis in AXES]
        counts = f"{one.passed} / {one.failed} / {one.skipped}" if one.date else ""
        told = [name, *conditions, outcome, counts, round(one.seconds) or "", one.date, one.commit]
        lines.append("| " + " | ".join(map(str, told)) + " |")
    return [*lines, ""]


def _failures(results: list[Result]) -> list[str]:
    found: dict[str, list[str]] = {}
    for one in results:
        for test, said in one.failures.items():
            cells = found.setdefault(f"`{test}`: {_essence(said)}", [])
            cells.append(" ".join([one.kernel, *one.cell.values()]))
    if not found:
        return []
    return ["## Failures", "", *(f"- {what}, on {'; '.join(cells)}" for what, cells in found.items()), ""]


def _essence(said: str) -> str:
    """The assertion's own words, with Hypothesis's example if there is one, and where: the last line."""
    lines = [line.strip() for line in said.strip().splitlines()]
    told = " ".join(line.removeprefix("E").strip() for line in lines if line.startswith("E  "))
    return f"`{' at '.join(filter(None, [told[:300], *lines[-1:]]))}`".replace("|", "/")


def _skips(results: list[Result]) -> list[str]:
    counted = reasons(results)
    if not counted:
        return []
    rows = [f"| {count} | {reason} |" for reason, count in counted.most_common()]
    return ["## Why tests were skipped", "", "| tests, all rows | reason |", "|---|---|", *rows, ""]
