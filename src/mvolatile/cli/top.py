"""``mvolatile top``: a live view of processes, caches and keepers."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UnsupportedError
from .scene import History, key_of, look
from .tables import mib

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["add_parser"]

WIDE = 160
"""Columns where no terminal says how many there are."""
NARROW = 110
SHOWN_FROM = {"kind": NARROW, "bytes": NARROW, "size": NARROW, "misses": 80, "clients": 80, "entries": 70}
"""Terminals that are less wide do without that column, so that no number is cut."""
BARS = (
    " \N{LOWER ONE EIGHTH BLOCK}\N{LOWER ONE QUARTER BLOCK}\N{LOWER THREE EIGHTHS BLOCK}\N{LOWER HALF BLOCK}\
\N{LOWER FIVE EIGHTHS BLOCK}\N{LOWER THREE QUARTERS BLOCK}\N{LOWER SEVEN EIGHTHS BLOCK}\N{FULL BLOCK}"
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "top",
        help="a live view of processes, caches and keepers",
        description="Shows the volatile memory of this user's processes, keepers of shared caches, and the caches of "
        "programs that tell of them: those that run with MVOLATILE_METRICS=1, or call mvolatile.metrics.publish(). "
        "Rebuild pressure is the share of time in which somebody makes again what the kernel took. Ends with Ctrl-C.",
    )
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds between looks (1)"
    )
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.add_argument(
        "--json", action="store_true", help="print what is seen as JSON, a line for each look"
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Until Ctrl-C, or once."""
    if arguments.json:
        return _print_json(arguments)
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise UnsupportedError(
            "this view needs rich: pip install mvolatile[top]; --json does without"
        ) from None
    console, history = Console(), History()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    history.add(seen := look())
    if arguments.once:
        console.print(picture(seen, history, console.width))
        return 0
    if not console.is_terminal or console.is_dumb_terminal:  # one below the other
        while True:
            console.print(picture(seen, history, console.width), "")
            console.file.flush()
            time.sleep(arguments.interval)
            history.add(seen := look())
    with Live(
        picture(seen, history, console.width), console=console, screen=True, auto_refresh=False
    ) as live:
        while True:
            time.sleep(arguments.interval)
            history.add(seen := look())
            live.update(picture(seen, history, console.width), refresh=True)


def _print_json(arguments: argparse.Namespace) -> int:
    while True:
        print(json.dumps(look()), flush=True)
        if arguments.once:
            return 0
        time.sleep(arguments.interval)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"seconds between looks are 0.1 to 3600, not {text}")
    return seconds


_seconds.__name__ = "number of seconds"


def picture(seen: dict[str, Any], history: History, width: int = WIDE) -> RenderableType:
    """All tables, for rich."""
    from rich.console import Group

    return Group(*_parts(seen, history, width))


def _parts(seen: dict[str, Any], history: History, width: int) -> Iterable[RenderableType]:
    from rich.text import Text

    yield Text(_headline(seen["container"]))
    yield _table(
        "caches",
        ("cache", "kind", "pid", "entries", "bytes", "resident", "hits", "lost/s", "rebuild pressure"),
        [_cache_row(cache, history, max(0, width - NARROW) // 4 + 1) for cache in seen["caches"]],
        "no program tells of its caches: run it with MVOLATILE_METRICS=1",
        width,
    )
    yield _table(
        "keepers",
        ("name", "pid", "clients", "entries", "bytes", "resident", "hits", "misses", "lost"),
        [
            (
                keeper["name"],
                *(str(keeper[what]) for what in ("pid", "clients", "entries")),
                mib(keeper["bytes"]),
                mib(keeper["resident"]),
                *(str(keeper[what]) for what in ("hits", "misses", "purged")),
            )
            for keeper in seen["keepers"]
        ],
        "no keeper of this user serves a shared cache",
        width,
    )
    yield _table(
        "processes",
        ("command", "pid", "size", "resident", "lazily freed"),
        [
            (
                process["command"][:48],
                str(process["pid"]),
                *(mib(process[what]) for what in ("size", "resident", "lazy_free")),
            )
            for process in seen["processes"]
        ],
        "no process of this user holds volatile memory",
        width,
    )


def _headline(container: dict[str, Any]) -> str:
    told = [f"memory {mib(container['usage'], 'not told')} of {mib(container['limit'])}"]
    if container["psi_some_avg10"] is not None:
        told.append(f"PSI some {container['psi_some_avg10']:.1f} %")
    if container["psi_full_avg10"] is not None:
        told.append(f"full {container['psi_full_avg10']:.1f} %")
    if container["oom_kills"]:
        told.append(f"killed for want of memory: {container['oom_kills']}")
    return "  ".join(told)


def _cache_row(cache: dict[str, Any], history: History, looks: int) -> tuple[str, ...]:
    """`looks`: of how many there are bars."""
    key = key_of(cache)
    rates, pressures = list(history.hit_rates[key])[-looks:], list(history.pressures[key])[-looks:]
    return (
        cache["name"],
        cache["kind"],
        str(cache["pid"]),
        str(cache["entries"]),
        mib(cache["bytes"]),
        mib(cache["resident_bytes"]),
        f"{sparkline(rates)} {rates[-1]:4.0%}",
        f"{history.lost[key]:.0f}",
        f"{sparkline(pressures)} {pressures[-1]:4.0%}",
    )


def sparkline(shares: Iterable[float]) -> str:
    """A bar for each share from 0 to 1: an empty one for nothing, the lowest for the least."""
    return "".join(BARS[0 if share <= 0 else 1 + min(7, int(share * 8))] for share in shares)


def _table(
    title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], none: str, width: int
) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(f"{title}: {none}")
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    shown = [at for at, column in enumerate(columns) if width >= SHOWN_FROM.get(column, 0)]
    for at in shown:
        header = columns[at] if width >= NARROW else columns[at].replace(" ", "\n")
        justify: Literal["left", "right"] = "left" if at == 0 or columns[at] == "kind" else "right"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=at > 0)
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    return table
