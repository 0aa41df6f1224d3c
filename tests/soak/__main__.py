"""Soak the library: processes, threads, forks, kills, swap and limits for as long as wanted, everything verified."""

from __future__ import annotations

import argparse
import json
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mvolatile.errors import UnsupportedError

from .run import Report, soak


def main() -> int:
    """0 if nothing went wrong, 1 if something did, 2 if it cannot be run here."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=6, help="how many at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of all random choices (default: another each time)")
    parser.add_argument("--no-swap", dest="swap", action="store_false", help="leave the machine's swap alone")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args()
    seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    console = Console(stderr=True)
    console.print(f"seed {seed}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("soaking", total=options.minutes * 60)

        def show(done: float, report: Report) -> None:
            ended = sum(count for name, count in report.counts.items() if name.startswith("workers ended"))
            bar.update(task, completed=done, description=f"{options.processes} processes, {ended} ended")

        try:
            report = soak(options.minutes * 60, options.processes, seed, swap=options.swap, progress=show)
        except UnsupportedError as error:
            console.print(f"cannot be run here: {error}", markup=False)
            return 2
    if options.json:
        print(json.dumps(vars(report), indent=1))
    else:
        _tell(console, report)
    return 1 if report.failures else 0


def _tell(console: Console, report: Report) -> None:
    peak = "unknown" if report.peak is None else f"{report.peak >> 20} MiB"
    console.print(
        f"{report.seconds:.0f} s, {report.processes} processes at a time, peak of the cgroup {peak}"
    )
    for name, count in report.counts.items():
        console.print(f"{count:>14,}  {name}", highlight=False)
    if report.no_swap:
        console.print(f"without swap: {report.no_swap}", markup=False)
    for failure in report.failures:
        console.print(failure, style="red", markup=False)
    console.print(
        f"seed {report.seed}: " + ("FAILED" if report.failures else "nothing wrong, nothing left behind")
    )


if __name__ == "__main__":
    sys.exit(main())
