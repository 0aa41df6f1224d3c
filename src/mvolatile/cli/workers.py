"""Many searches at once, in processes of their own, and how they are getting on."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.sharedctypes import Synchronized
from time import monotonic
from typing import Any

from .searching import Row, examine

EVERY = 1.0
"""Seconds between two reports."""

Report = Callable[[int, int], None]
"""Called with the searches done and the states seen so far."""

_states: Synchronized[int] | None = None
"""In a worker: what all workers have seen, together."""


def examine_all(
    pairs: Sequence[tuple[str, str]], *, processes: int, quiet: bool, **options: Any
) -> Iterator[list[Row]]:
    """Examine (race, variant) pairs, several at once, and hand the rows over in the order of the pairs.

    An interrupt ends the workers, which have nothing to put away.
    """
    with _reporting(len(pairs), quiet) as report:
        if processes == 1:
            yield from _one_by_one(pairs, report, options)
        else:
            yield from _in_parallel(pairs, processes, report, options)


def _one_by_one(
    pairs: Sequence[tuple[str, str]], report: Report, options: dict[str, Any]
) -> Iterator[list[Row]]:
    seen = 0
    for done, (race, variant) in enumerate(pairs):

        def progress(states: int, _steps: int, before: int = seen, done: int = done) -> None:
            report(done, before + states)

        rows = examine(race, variant, progress=progress, **options)
        seen += rows[0].states
        report(done + 1, seen)
        yield rows


def _in_parallel(
    pairs: Sequence[tuple[str, str]], processes: int, report: Report, options: dict[str, Any]
) -> Iterator[list[Row]]:
    context = get_context("spawn")  # a fork would copy the progress bar's thread and its locks
    states = context.Value("Q")
    others = active_children()
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(states,))
    try:
        futures = [pool.submit(_examine, race, variant, options) for race, variant in pairs]
        left = set(futures)
        while left:
            _, left = wait(left, timeout=EVERY)
            report(len(pairs) - len(left), states.value)
        yield from [future.result() for future in futures]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in active_children():
            if worker not in others:
                worker.terminate()
        raise
    pool.shutdown()


def _begin(states: Synchronized[int]) -> None:
    """In a worker: a Ctrl-C at the terminal reaches it too, and is for the parent to answer."""
    global _states
    _states = states
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _examine(race: str, variant: str, options: dict[str, Any]) -> list[Row]:
    told = 0

    def progress(states: int, _steps: int = 0) -> None:
        nonlocal told
        if _states is not None:
            with _states.get_lock():
                _states.value += max(states - told, 0)
        told = states

    rows = examine(race, variant, progress=progress, **options)
    progress(rows[0].states)
    return rows


@contextmanager
def _reporting(total: int, quiet: bool) -> Iterator[Report]:
    """States per second on standard error, if that is a terminal: a bar where rich is installed, else a line."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, states: None
        return
    with ExitStack() as stack:
        show = stack.enter_context(_bar(total) if importlib.util.find_spec("rich") else _line(total))
        begin = last = monotonic()

        def report(done: int, states: int) -> None:
            nonlocal last
            now = monotonic()
            if now - last >= EVERY or done == total:
                last = now
                show(done, f"{states:,} states, {states / (now - begin):,.0f} states/s")

        yield report


@contextmanager
def _line(total: int) -> Iterator[Callable[[int, str], None]]:
    erase = "\r\x1b[K"
    yield lambda done, text: print(f"{erase}{done} of {total}, {text}", end="", file=sys.stderr, flush=True)
    print(erase, end="", file=sys.stderr, flush=True)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("searching"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, text="")
        yield lambda done, text: bar.update(task, completed=done, text=text)
