"""Fuzz the core against the patch's model, guided by the edges that its operations take."""

from __future__ import annotations

import argparse
import json
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .edges import counting_core
from .fuzzer import Fuzzer, Judge, SwapError, save


def main() -> int:
    """0 if the two sides agreed, 1 if they diverged, 2 if a swap device ended it."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so long in any case")
    parser.add_argument("--seed", type=int, help="of all random choices (default: another each time)")
    parser.add_argument("--save", action="store_true", help="rewrite corpus.txt, minimised")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args()
    seed = time.time_ns() % 10**6 if options.seed is None else options.seed
    console = Console(stderr=True)
    console.print(f"seed {seed}")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    start, stopped = time.monotonic(), None
    with counting_core() as edges, Judge() as judge:
        fuzzer = Fuzzer(judge, edges, seed)
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("fuzzing", total=options.operations)

            def show(now: Fuzzer) -> None:
                told = (
                    f"{now.operations:,} operations, {edges.total()} edges, {len(now.corpus)} programs kept"
                )
                bar.update(task, completed=now.operations, description=told)

            try:
                fuzzer.fuzz(options.operations, options.minutes, show)
            except SwapError as error:
                stopped = str(error)
        kept = fuzzer.minimised()
    if options.save and not fuzzer.divergences and not stopped:
        save(kept)
    operations = judge.tally.operations
    summary = {
        "seed": seed,
        "seconds": round(time.monotonic() - start),
        "operations": operations.total(),
        "by tier and kind": {f"{tier} {name}": n for (tier, name), n in sorted(operations.items())},
        "allowed differences": {f"{t} {name}": n for (t, name), n in sorted(judge.tally.differences.items())},
        "programs": fuzzer.programs,
        "outgrown": judge.outgrown,
        "edges": edges.total(),
        "corpus": len(kept),
        "divergences": fuzzer.divergences,
        "unrepeated": fuzzer.unrepeated,
        "stopped": stopped,
    }
    if options.json:
        print(json.dumps(summary, indent=1))
    else:
        for name, value in summary.items():
            console.print(f"{name}: {value}", markup=False, highlight=False)
    if fuzzer.divergences or fuzzer.unrepeated:
        return 1
    return 2 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
