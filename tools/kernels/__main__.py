"""Run the contract's tests on Debian's kernels under QEMU, and on the running kernel; write docs/kernels.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from . import code, debian, image, machine, results, table
from .matrix import AXES, Cell, covering
from .results import RUNNING, Result

BUILD = machine.ROOT / "build/kernels"
RESULTS = machine.ROOT / "docs/kernels.json"
TABLE = machine.ROOT / "docs/kernels.md"


def main() -> int:
    """0 if every cell that ran was good, 1 if not."""
    options = _parser().parse_args()
    if options.only_table:
        table.write(TABLE, results.load(RESULTS), machine.MEGABYTES)
        return 0
    options.kernel = options.kernel or ["6.1", "6.12", "7", RUNNING]
    (BUILD / "logs").mkdir(parents=True, exist_ok=True)
    if options.tests:
        os.environ["CELL_TESTS"] = options.tests
    console = Console(stderr=True)
    try:
        if set(options.kernel) - {RUNNING}:
            machine.check_room(options.jobs)
        debian.install_tools()
        return _run(options, console)
    except debian.UnavailableError as why:
        console.print(f"{'skipped' if options.if_possible else 'cannot'}: {why}", markup=False)
        return 0 if options.if_possible else 2


def _run(options: argparse.Namespace, console: Console) -> int:
    done: list[Result] = []
    with _progress(console) as progress:
        for series in options.kernel:
            for one in (_running if series == RUNNING else _emulated)(series, options, progress):
                done.append(one)
                _keep([one], options)
    if options.json:
        print(json.dumps([{**asdict(one), "good": one.good} for one in done], indent=1))
    for one in done:
        if not one.good:
            told = one.error or "\n".join(f"{test}\n{said}" for test, said in one.failures.items())
            console.print(f"{one.kernel} {' '.join(one.cell.values())}: {told}", style="red", markup=False)
    if not done:
        console.print("nothing to run")
    return 0 if all(one.good for one in done) and (done or options.missing) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.kernels", description=__doc__)
    parser.add_argument(
        "--kernel",
        action="append",
        help="a series of Debian's cloud kernels, such as 6.1 or 7, or 'running'; more than once for several "
        "(default: 6.1, 6.12, 7 and running)",
    )
    parser.add_argument("--cells", type=int, help="boot only the first so many combinations (default: all)")
    parser.add_argument(
        "--where",
        type=lambda text: frozenset(text.split(",")),
        default=frozenset(),
        help="only combinations with all of these conditions, with commas between, such as v2,root",
    )
    parser.add_argument(
        "--missing",
        action="store_true",
        help="only combinations of which docs/kernels.json has no good result of this code: nothing that ran there, "
        "the sources and the tests, has changed since its commit",
    )
    parser.add_argument(
        "--any-commit",
        action="store_true",
        help="with --missing: a good result of an older commit of the same release counts, too",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="virtual machines at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds for one combination (default: %(default)s)"
    )
    parser.add_argument(
        "--tests",
        help="'quick' for a few, or paths and ids with commas between, in place of those of the short form; the "
        "results are neither kept nor put into the table",
    )
    parser.add_argument(
        "--if-possible",
        action="store_true",
        help="where the kernels cannot be had or booted (no apt, no network, no room), say so and end well",
    )
    parser.add_argument(
        "--only-table", action="store_true", help="run nothing; write docs/kernels.md from docs/kernels.json"
    )
    parser.add_argument(
        "--no-table", dest="table", action="store_false", help="leave docs/kernels.md as it is"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


def _keep(some: list[Result], options: argparse.Namespace) -> None:
    """After each cell: a run that is broken off leaves what it has found."""
    if not options.tests:
        kept = results.save(RESULTS, some)
        if options.table:
            table.write(TABLE, kept, machine.MEGABYTES)


def _kept(options: argparse.Namespace) -> set[tuple[str, ...]]:
    """The cells that need no other run."""
    if not options.missing:
        return set()
    return results.good(RESULTS, code.same_release if options.any_commit else code.same)


def _emulated(series: str, options: argparse.Namespace, progress: Progress) -> Iterator[Result]:
    with _task(progress, f"{series}: kernel and image") as task:
        kernel = debian.fetch(series, BUILD)
        initramfs = image.build(kernel, BUILD)
        progress.update(task, total=1, completed=1)
    missing = frozenset() if kernel.has("MEMCG_V1") or series == "6.1" else frozenset({"v1"})
    planned = covering(missing)
    _keep(results.not_run(series, kernel.release, planned, RESULTS), options)
    kept = _kept(options)
    cells = [
        cell
        for cell in planned
        if options.where <= set(cell.values()) and results.key(series, cell.as_dict()) not in kept
    ][: options.cells]

    def run(cell: Cell) -> Result:
        with _task(progress, f"{series} {' '.join(cell.values())}") as task:
            log = BUILD / "logs" / f"{series}-{cell}.log"
            return machine.boot(
                series, kernel, initramfs, cell, log, options.timeout, lambda one: _show(progress, task, one)
            )

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            yield from pool.map(run, cells)
        except BaseException:
            machine.end_all()  # or leaving the pool would wait for them
            raise


def _running(series: str, options: argparse.Namespace, progress: Progress) -> Iterator[Result]:
    def run(root: Path, user: str, tier: str) -> Result:
        with _task(progress, f"running {user} {tier}") as task:
            log = BUILD / "logs" / f"running-{user}-{tier}.log"
            return machine.run_here(
                root, user, tier, log, options.timeout, lambda one: _show(progress, task, one)
            )

    kept = _kept(options)
    with tempfile.TemporaryDirectory(prefix="mvolatile-kernels-") as name:
        root = Path(name)
        with _task(progress, "running: image"):
            image.unpack(BUILD, root)
        for user in AXES["user"] if os.geteuid() == 0 else ["user"]:
            for tier in AXES["tier"]:
                asked = results.key(RUNNING, {"tier": tier, "user": user})
                if options.where <= {user, tier} and asked not in kept:
                    yield run(root, user, tier)


def _show(progress: Progress, task: TaskID, one: Result) -> None:
    progress.update(
        task,
        total=one.collected or None,
        completed=one.passed + one.failed + one.skipped,
        outcome=f"{one.passed} passed, {one.failed} failed, {one.skipped} skipped",
    )


@contextlib.contextmanager
def _task(progress: Progress, title: str) -> Iterator[TaskID]:
    """A line of its own, that stays when done; told in words where there is no terminal to draw on."""
    task = progress.add_task(title, total=None, outcome="")
    try:
        yield task
    finally:
        progress.stop_task(task)
        if not progress.console.is_terminal:
            progress.console.print(f"{title}  {progress.tasks[task].fields['outcome']}", markup=False)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outcome]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


if __name__ == "__main__":
    sys.exit(main())
