"""What the terminal shows: one row per contender while they run, and the closing table."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mvolatile.demo.contenders import Contender
from mvolatile.demo.outcome import End, Outcome, Report, Sample

__all__ = ["Board", "closing_table"]

_MIB = 1 << 20
_BAR = 28
_RED, _GREEN = "bold red", "bold green"


class Board:
    """The live table; a context manager. Where there is no terminal it shows nothing."""

    def __init__(self, console: Console, contenders: Sequence[Contender], requests: int, limit: int) -> None:
        self._contenders = contenders
        self._requests = requests
        self._limit = limit
        self._tiles = (0, 1)
        self._latest: dict[str, Sample] = {}
        self._done: dict[str, Outcome] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)
        self._shown = console.is_terminal and not console.quiet

    def cutting(self, done: int, total: int) -> None:
        """So many tiles are cut."""
        self._tiles = (done, total)

    def sampled(self, contender: Contender, sample: Sample) -> None:
        """A contender has moved on."""
        self._latest[contender.name] = sample

    def finished(self, outcome: Outcome) -> None:
        """A contender has ended."""
        self._done[outcome.name] = outcome

    def refresh(self) -> None:
        """Draw now, rather than at the next tick."""
        if self._shown:
            self._live.refresh()

    def _render(self) -> RenderableType:
        done, total = self._tiles
        if done < total or not self._latest:
            cutting = Table.grid(padding=(0, 2))
            cutting.add_row(
                "cutting the maps into tiles", ProgressBar(total, done, width=40), f"{done}/{total}"
            )
            return cutting
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column()
        table.add_column("requests", justify="right")
        table.add_column("")
        table.add_column("hit rate", justify="right")
        table.add_column(f"memory, of {self._limit // _MIB} MiB: tiles █  neighbour ▒")
        table.add_column("")
        for contender in self._contenders:
            table.add_row(contender.label(self._limit), *self._row(contender))
        return Group(table)

    def _row(self, contender: Contender) -> list[RenderableType]:
        sample = self._latest.get(contender.name)
        outcome = self._done.get(contender.name)
        if sample is None:
            return [Text("waits", style="dim")]
        return [
            f"{sample.requests:,}",
            ProgressBar(self._requests, sample.requests, width=16),
            f"{sample.hits / sample.requests:.0%}" if sample.requests else "",
            self._memory(sample),
            _ending(outcome) if outcome else Text("runs", style="bold"),
        ]

    def _memory(self, sample: Sample) -> Text:
        cache = round(_BAR * sample.cache_bytes / self._limit)
        neighbour = round(_BAR * sample.neighbour_bytes / self._limit)
        bar = Text("█" * cache, style="green").append("▒" * neighbour, style="yellow")
        return bar.append("·" * max(_BAR - cache - neighbour, 0), style="dim")

    def __enter__(self) -> Self:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def closing_table(report: Report) -> Table:
    """All outcomes, one a row; 80 columns are enough."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        caption=f"{report.requests:,} requests, limit {report.limit // _MIB} MiB, seed {report.seed}",
    )
    table.add_column("", no_wrap=True)
    for column in (
        "requests",
        "hits",
        "hit\nrate",
        "rebuilt\nafter\npurge",
        "wrong\ntiles",
        "time\ns",
        "peak\nMiB",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for outcome in report.outcomes:
        table.add_row(
            outcome.label,
            f"{outcome.requests:,}",
            f"{outcome.hits:,}",
            f"{outcome.hit_rate:.0%}",
            f"{outcome.rebuilt:,}",
            Text(str(outcome.wrong), style=_RED if outcome.wrong else ""),
            f"{outcome.seconds:.1f}",
            str(outcome.peak_bytes // _MIB),
            _ending(outcome),
        )
    return table


def _ending(outcome: Outcome) -> Text:
    return Text(outcome.end, style=_GREEN if outcome.end is End.SERVED else _RED)
