"""The picture: for each contender what memory it had, and how often a tile was ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvolatile.demo.outcome import End, Outcome, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_MIB = 1 << 20
_CACHE = {
    "dict": "#c0504d",
    "lru-large": "#d08a2e",
    "lru-small": "#8b7bb8",
    "volatile": "#2a8c5a",
    "private": "#d08a2e",
    "shared": "#2a8c5a",
}
_NEIGHBOUR, _LIMIT, _DEAD, _INK = "#b8bec6", "#222222", "#c62828", "#222222"
_WINDOWS = 30
"""A hit rate is taken over this part of the stream."""


def draw(report: Report, directory: Path) -> list[Path]:
    """Write ``demo.png`` and ``demo.svg`` into `directory`, or ``demo_workers.*``; returns their paths."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # svg.hashsalt and the missing date make the same run give the same file.
    style: Any = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "mvolatile",
    }
    with rc_context(style):
        columns = len(report.outcomes)
        figure = Figure(figsize=(3.6 * columns + 0.6, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(
            2, columns, sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": [3, 2]}
        )
        for index, outcome in enumerate(report.outcomes):
            _memory(grid[0][index], report, outcome, first=index == 0)
            _hits(grid[1][index], report, outcome)
        grid[0][0].set_ylabel("memory, MiB")
        grid[1][0].set_ylabel("tiles ready in memory")
        figure.supxlabel(f"requests served (the same {report.requests:,} for all)", fontsize=10)
        figure.suptitle(
            f"Real map tiles, {report.kept_bytes // _MIB} MiB of them, {_served_by(report)}under a limit of "
            f"{report.limit // _MIB} MiB; midway a neighbour needs {report.neighbour_bytes // _MIB} MiB",
            fontsize=13 if report.workers == 1 else 11,
        )
        directory.mkdir(parents=True, exist_ok=True)
        name = "demo" if report.workers == 1 else "demo_workers"
        paths = [directory / f"{name}.png", directory / f"{name}.svg"]
        figure.savefig(paths[0], dpi=130)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _served_by(report: Report) -> str:
    return "" if report.workers == 1 else f"served by {report.workers} workers\n"


def _memory(axes: Axes, report: Report, outcome: Outcome, *, first: bool) -> None:
    served = [sample.requests for sample in outcome.samples]
    cache = [sample.cache_bytes / _MIB for sample in outcome.samples]
    neighbour = [sample.neighbour_bytes / _MIB for sample in outcome.samples]
    limit = report.limit / _MIB
    colour = _CACHE.get(outcome.name, "#4477aa")
    axes.stackplot(served, cache, neighbour, colors=[colour, _NEIGHBOUR], linewidth=0)
    axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.2)
    axes.set_xlim(0, report.requests)
    axes.set_ylim(0, limit * 1.12)
    thirds = [limit / 3 * number for number in range(4)]
    axes.set_yticks(thirds, [f"{mark:.0f}" for mark in thirds])
    axes.set_title(f"{outcome.label}\n", fontsize=13, fontweight="bold", color=colour, pad=4)
    axes.text(
        0.5,
        1.015,
        _verdict(outcome),
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        color=_INK if outcome.end is End.SERVED else _DEAD,
    )
    if first:
        axes.text(report.requests * 0.99, limit * 1.01, "limit", ha="right", va="bottom", color=_LIMIT)
    if outcome.end is not End.SERVED and served:
        height = min(cache[-1] + neighbour[-1], limit)
        axes.plot(served[-1], height, marker="X", markersize=13, color=_DEAD, clip_on=False, zorder=5)
    _label_areas(axes, report, outcome)


def _label_areas(axes: Axes, report: Report, outcome: Outcome) -> None:
    """Words inside the areas instead of a legend, where the run lived long enough to have room for them."""
    if outcome.end is not End.SERVED:
        return
    arrives, gone = report.neighbour_requests
    middle = arrives + 0.57 * (gone - arrives)  # it comes more slowly than it goes
    nearest = min(outcome.samples, key=lambda sample: abs(sample.requests - middle))
    cache, beside = nearest.cache_bytes / _MIB, nearest.neighbour_bytes / _MIB
    axes.text(middle, cache + beside / 2, "neighbour", ha="center", va="center", color=_INK)
    axes.text(
        report.requests * 0.03, cache / 2, "tiles", ha="left", va="center", color="white", fontweight="bold"
    )


def _hits(axes: Axes, report: Report, outcome: Outcome) -> None:
    colour = _CACHE.get(outcome.name, "#4477aa")
    rates = list(outcome.recent_hit_rates(report.requests // _WINDOWS))
    axes.axvspan(*report.neighbour_requests, color=_NEIGHBOUR, alpha=0.35, linewidth=0)
    axes.plot([at for at, _ in rates], [rate * 100 for _, rate in rates], color=colour, linewidth=2)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    ticks = [report.requests // 4 * quarter for quarter in range(1, 4)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    if outcome.end is not End.SERVED and rates:
        axes.plot(*[(rates[-1][0]), rates[-1][1] * 100], marker="X", markersize=11, color=_DEAD, zorder=5)


def _verdict(outcome: Outcome) -> str:
    if outcome.end is End.SERVED:
        return f"served all, {outcome.hit_rate:.0%} ready, {outcome.seconds:.1f} s"
    if outcome.end is End.KILLED:
        return f"killed by the kernel after {outcome.requests:,}"
    return f"{outcome.end} after {outcome.requests:,}"
