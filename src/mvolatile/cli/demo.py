"""``mvolatile demo``: real map tiles under a real memory limit, in a dict, an LRU, volatile memory."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mvolatile.errors import UnsupportedError

if TYPE_CHECKING:
    from mvolatile.demo.live import Board
    from mvolatile.demo.outcome import Report

__all__ = ["add_parser"]

_MIB = 1 << 20
_NEEDED = ("PIL", "cachetools", "matplotlib", "mpl_toolkits", "numpy", "rich")
_OUT = Path("demo-out")
_NEIGHBOUR_SHARE = 0.4
_A_WORKER = 28 * _MIB
"""What a worker needs for itself."""
_SMALLEST_LIMIT = 64 * _MIB
"""Below this the interpreter and Pillow leave no room to show anything."""


@dataclass(frozen=True, slots=True)
class _Size:
    requests: int
    limit: int
    maps: tuple[str, ...]


_FULL = _Size(20_000, 192 * _MIB, ("shadedrelief", "bmng", "etopo1"))
_QUICK = _Size(5_000, 88 * _MIB, ("bmng", "etopo1"))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="serve real map tiles under a real memory limit, with and without volatile memory",
        description=(
            "Serves one stream of map tile requests four times under the same memory limit: decoded tiles "
            "are kept in an unbounded dict, in an LRU with a generous and with a careful cap, and in "
            "volatile memory. Midway a neighbour takes memory from the same limit and gives it back. Ends "
            "in about a minute with a table and a picture."
        ),
    )
    parser.add_argument("--seed", type=int, default=1, help="of the request stream (default %(default)s)")
    parser.add_argument("--requests", type=_count, help=f"tiles to ask for (default {_FULL.requests})")
    parser.add_argument(
        "--limit", type=_size, help=f"memory limit, such as 192M or 1G (default {_FULL.limit // _MIB}M)"
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="have so many processes share the stream and the limit: a VolatileCache in each of them, and then one "
        f"SharedCache for all (the limit is {_A_WORKER // _MIB}M more for each)",
    )
    parser.add_argument(
        "--out", type=Path, help="directory of the picture (default ./demo-out; with --json none is drawn)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"two smaller maps, {_QUICK.requests} requests, {_QUICK.limit // _MIB}M: some ten seconds",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON report alone, and draw only if there is --out"
    )
    parser.set_defaults(func=run, refuse=parser.error)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number of requests: {text}") from None
    if value < 1000:
        raise argparse.ArgumentTypeError(f"at least 1000 requests are needed to show anything: {text}")
    return value


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"not a number of workers, 1 to 64: {text}")
    return int(text)


def _size(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    try:
        value = int(float(number) * units.get(unit, 1))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not a size such as 192M or 1G: {text}") from None
    if value < _SMALLEST_LIMIT:
        raise argparse.ArgumentTypeError(
            f"at least {_SMALLEST_LIMIT // _MIB}M: Python itself needs a part of it"
        )
    return value


@contextlib.contextmanager
def _writable(directory: Path, refuse: Callable[[str], NoReturn]) -> Iterator[None]:
    """Makes the directory, and `refuse` is told now if nothing can be written there; one left empty goes again."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as error:
            refuse(f"argument --out: no picture can be written into {directory}: {error.strerror}")
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 if volatile memory served every request, and nobody a wrong tile."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"the demo needs its extra (missing here: {', '.join(missing)}): pip install 'mvolatile[demo]'"
        )
    if arguments.json and not arguments.out:
        return _run(arguments, None)
    directory = arguments.out or _OUT
    with _writable(directory, arguments.refuse):
        return _run(arguments, directory)


def _run(arguments: argparse.Namespace, directory: Path | None) -> int:
    from rich.console import Console

    from mvolatile.demo.contenders import contenders
    from mvolatile.demo.live import Board, closing_table
    from mvolatile.demo.outcome import End
    from mvolatile.demo.picture import draw

    size = _QUICK if arguments.quick else _FULL
    workers = arguments.workers
    limit = size.limit + (_A_WORKER * workers if workers > 1 else 0)
    size = replace(size, requests=arguments.requests or size.requests, limit=arguments.limit or limit)
    # With --json nothing but the report goes to standard output, and no live display anywhere.
    console = Console(quiet=arguments.json)
    with Board(console, contenders(workers), size.requests, size.limit) as board:
        report = _race(size, arguments.seed, workers, board, console.print)
    pictures = draw(report, directory) if directory else []
    if arguments.json:
        json.dump(report.as_json(), sys.stdout)
        print()
    else:
        console.print(closing_table(report))
        console.print(f"picture: {' and '.join(map(str, pictures))}", soft_wrap=True)
    for outcome in report.outcomes:
        if outcome.said:
            print(f"{outcome.label}: {outcome.said}", file=sys.stderr)
    whole = all(outcome.wrong == 0 and outcome.end is not End.FAILED for outcome in report.outcomes)
    return 0 if whole and report.outcomes[-1].end is End.SERVED else 1


def _race(size: _Size, seed: int, workers: int, board: Board, say: Callable[[str], None]) -> Report:
    from mvolatile.demo import imagery, race, walk
    from mvolatile.demo.contenders import contenders
    from mvolatile.demo.outcome import Report
    from mvolatile.kernel.features import features

    reason = race.why_no_cgroup(size.limit)
    with tempfile.TemporaryDirectory(prefix="mvolatile-demo-") as name:
        directory = Path(name)
        imagery.build(directory, size.maps, board.cutting)
        with imagery.TileStore(directory) as store:
            keys = walk.stream(store.levels, size.requests, seed)
            (directory / "stream.bin").write_bytes(keys.tobytes())
            say(
                f"{len(store):,} tiles of real maps, {imagery.TILE_BYTES * len(store) // _MIB} MiB decoded; "
                f"{size.requests:,} requests for {len(set(keys)):,} of them"
            )
            if reason is None:
                say(f"every contender runs in a memory cgroup of {size.limit // _MIB} MiB without swap")
            else:
                say(
                    f"no memory cgroup can be made here ({reason}): "
                    "tiles are purged through MADV_PAGEOUT instead"
                )
            found = features()
            say(f"tier {found.tier}: {found.reason}")
            course = race.Course(
                directory,
                size.requests,
                size.limit,
                int(size.limit * _NEIGHBOUR_SHARE),
                in_cgroup=reason is None,
                workers=workers,
            )
            report = Report(
                seed=seed,
                requests=size.requests,
                limit=size.limit,
                tiles=len(store),
                kept_bytes=imagery.TILE_BYTES * len(set(keys)),
                neighbour_bytes=course.neighbour,
                neighbour_requests=course.neighbour_requests,
                tier=found.tier,
                enforced_by="memory cgroup" if reason is None else "MADV_PAGEOUT",
                why_not_cgroup=reason,
                workers=workers,
            )
            for contender in contenders(workers):
                # Cached file pages are charged to whoever reads them first: that shall be us, and not the
                # contender whose memory we look at.
                store.warm()
                outcome = race.run(course, contender, functools.partial(board.sampled, contender))
                board.finished(outcome)
                report.outcomes.append(outcome)
    return report
