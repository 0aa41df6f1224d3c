"""Aligned tables: with rich on a terminal where it is installed, plain otherwise and for whoever reads a
pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["mib", "print_table"]


def mib(nbytes: int | None, none: str = "no limit") -> str:
    """A size for people: ``12.5 MiB``; `none` for what has no number."""
    if nbytes is None:
        return none
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print to stdout; the first `left` columns are aligned to the left, the others, numbers, to the "
    "right."""
    if not sys.stdout.isatty():
        _print_plain(title, columns, rows, left)
        return
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _print_plain(title, columns, rows, left)
        return
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _print_plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    shown = [columns, *rows] if any(columns) else list(rows)
    widths = [max((len(row[index]) for row in shown), default=0) for index in range(len(columns))]
    print(title)
    for row in shown:
        cells = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())
