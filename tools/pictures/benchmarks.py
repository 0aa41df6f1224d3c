"""Pictures of the results that lie beside the benchmarks, one function each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

__all__ = ["PICTURES", "draw", "working_set_table"]

RESULTS = Path(__file__).parents[2] / "benchmarks"
OURS, OURS_TOO, OTHER, OTHER_TOO, BARE, LOSS = (
    "#1f6feb",
    "#79b8ff",
    "#d97706",
    "#fbbf24",
    "#6b7280",
    "#dc2626",
)
_DIGEST = "results sha256 "


def draw(name: str, path: Path) -> None:
    """One picture, which carries the digest of the results that it shows."""
    style: Any = {
        "svg.hashsalt": "mvolatile",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        try:
            PICTURES[name](json.loads(_results(name)), axes)
            axes.grid(axis="y", alpha=0.3)
            figure.savefig(path, metadata={"Date": None, "Description": _DIGEST + _digest(name)})
        finally:
            pyplot.close(figure)


def working_set_table() -> str:
    """The table of the same figures, for the docs."""
    rows = json.loads(_results("working_set"))["rows"]
    columns = [column for column in rows[0] if not column.startswith(("state", "MemAvailable", "anon"))]
    lines = ["| | " + " | ".join(column.removesuffix(", MiB") for column in columns) + " |"]
    lines.append("|---|" + "--:|" * len(columns))
    lines += [f"| {row['state']} | " + " | ".join(f"{row[c]:.0f}" for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _results(name: str) -> str:
    return (RESULTS / f"{name}.json").read_text()


def _digest(name: str) -> str:
    return hashlib.sha256(_results(name).encode()).hexdigest()


def _mark_unmark(results: Any, axes: Any) -> None:
    kinds = {
        "ours huge, us": ("with mem.pin(): pass (default)", OURS),
        "ours base, us": ("the same on 4 KiB pages", OURS_TOO),
        "cas huge, us": ("CAS on huge pages", OTHER_TOO),
        "cas base, us": ("CAS on 4 KiB pages", OTHER),
        "bare huge, us": ("bare calls, huge pages", BARE),
        "memcpy, us": ("memcpy of the data", "#c4b5fd"),
    }
    rows = results["rows"]
    for i, (key, (label, colour)) in enumerate(kinds.items()):
        axes.bar(
            [at + (i - 2.5) * 0.14 for at in range(len(rows))],
            [row[key] for row in rows],
            0.13,
            label=label,
            color=colour,
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(rows)), [row["size"] for row in rows])
    axes.set_ylabel("µs, log scale")
    axes.legend(fontsize=8, ncols=2)


def _many_ranges(results: Any, axes: Any) -> None:
    rows = results["rows"]
    live = [row["live"] for row in rows]
    for key, label, colour in (
        ("pin + unpin of 100, us", "pin + unpin, always the same 100", OURS),
        ("of all, shuffled, us", "all of them, in random order", OTHER),
        ("bare calls, shuffled, us", "bare calls, in random order", BARE),
    ):
        axes.plot(live, [row[key] for row in rows], marker="o", label=label, color=colour)
    axes.set_xscale("log")
    axes.set_ylim(0)
    axes.set_xlabel("memories of 4 KiB that live")
    axes.set_ylabel("µs")
    axes.legend(fontsize=8)


def _patch_program(results: Any, axes: Any) -> None:
    rows = results["rows"]
    colours = [OURS if row["way"].startswith("volatile") else OTHER for row in rows]
    bars = axes.bar([row["way"] for row in rows], [row["elapsed, s"] for row in rows], 0.6, color=colours)
    axes.bar_label(bars, fmt="%.1f s")
    axes.set_ylabel("elapsed, s")


def _cache_under_limit(results: Any, axes: Any) -> None:
    for neighbour, offset, label, colour in (
        (False, -0.2, "alone", OURS_TOO),
        (True, 0.2, "with a neighbour", OURS),
    ):
        rows = [row for row in results["rows"] if row["neighbour"] is neighbour]
        places = [at + offset for at in range(len(rows))]
        axes.bar(places, [row["hits"] or 0 for row in rows], 0.38, label=label, color=colour)
        for place, row in zip(places, rows, strict=True):
            if row["hits"] is None:
                axes.plot(place, 500, marker="x", color=LOSS, markersize=8, markeredgewidth=2)
    axes.plot([], [], "x", color=LOSS, markeredgewidth=2, label="killed")
    names = {"cachetools": "LRU", "volatile_cache": "volatile", "lru_cache": "no cap"}
    labels = [
        names.get(row["cache"], row["cache"]) + (f"\n{row['cap_mib']} MiB" if row["cap_mib"] else "")
        for row in results["rows"]
        if row["neighbour"] is False
    ]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("hits")
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.15))


def _cache_hit_ratio(results: Any, axes: Any) -> None:
    rows = results["entries"]
    for key, label, colour, marker, size in (
        ("belady", "Belady", BARE, "_", 60),
        ("lru", "LRU", BARE, ".", 30),
        ("sieve", "SIEVE", OTHER_TOO, ".", 30),
        ("s3_fifo", "S3-FIFO", OTHER, ".", 30),
        ("w_tinylfu", "W-TinyLFU", LOSS, ".", 30),
        ("ours", "VolatileCache", OURS, "D", 18),
    ):
        cells = [(at, 100 * row[key]) for at, row in enumerate(rows) if row[key] is not None]
        axes.scatter(*zip(*cells, strict=True), marker=marker, s=size, color=colour, label=label)
    shares = len({row["share"] for row in rows})
    axes.set_xticks(
        range(shares // 2, len(rows), shares),
        [row["trace"] for row in rows[::shares]],
        fontsize=7,
        rotation=30,
    )
    for at in range(shares, len(rows), shares):
        axes.axvline(at - 0.5, color=BARE, alpha=0.2, linewidth=0.8)
    axes.set_ylabel("hits, %")
    axes.legend(fontsize=7, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1))


def _cache_speed(results: Any, axes: Any) -> None:
    hits = sorted(results["small_hits"].items(), key=lambda hit: float(hit[1]))
    colours = [OURS if name.startswith("ours") else OTHER for name, _ in hits]
    bars = axes.bar(
        [name.replace(", ", ",\n") for name, _ in hits], [1e6 * each for _, each in hits], 0.6, color=colours
    )
    axes.bar_label(bars, fmt="%.2g µs", fontsize=8)
    axes.set_yscale("log")
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("a hit, µs, log scale")


def _shared_speed(results: Any, axes: Any) -> None:
    tasks = {what: figures for what, figures in results["seconds"].items() if "SharedCache" in figures}
    colours = {"SharedCache": OURS, "diskcache": BARE, "memcached": OTHER, "Redis": OTHER_TOO}
    for i, (name, colour) in enumerate(colours.items()):
        places = [at + (i - 1.5) * 0.2 for at in range(len(tasks))]
        axes.bar(places, [1e6 * each.get(name, 0) for each in tasks.values()], 0.19, label=name, color=colour)
    axes.set_yscale("log")
    axes.set_xticks(range(len(tasks)), [what.replace(" of ", "\nof ") for what in tasks], fontsize=8)
    axes.set_ylabel("µs, log scale")
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15))


def _working_set(results: Any, axes: Any) -> None:
    rows = results["rows"]
    kinds = (("RSS", BARE), ("usage", OTHER), ("working set", OURS), ("LazyFree", OURS_TOO))
    for i, (key, colour) in enumerate(kinds):
        axes.bar(
            [at + (i - 1.5) * 0.2 for at in range(len(rows))],
            [row[f"{key}, MiB"] for row in rows],
            0.19,
            label=key,
            color=colour,
        )
    axes.set_xticks(range(len(rows)), [row["state"].replace(", ", ",\n") for row in rows], fontsize=8)
    axes.set_ylabel("MiB")
    axes.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.15))


def _cache_worth(results: Any, axes: Any) -> None:
    rows = results["rows"]
    for key, label, colour, marker, size in (
        ("lru", "LRU", BARE, ".", 30),
        ("sieve", "SIEVE", OTHER_TOO, ".", 30),
        ("cachey", "cachey", OTHER, ".", 30),
        ("gdsf", "GDSF", LOSS, "_", 60),
        ("untold", "VolatileCache, told no cost", OURS_TOO, "D", 18),
        ("ours", "VolatileCache", OURS, "D", 18),
    ):
        cells = [(at, 100 * row[key]) for at, row in enumerate(rows) if row[key] is not None]
        axes.scatter(*zip(*cells, strict=True), marker=marker, s=size, color=colour, label=label)
    shares = len({row["share"] for row in rows})
    names = list(dict.fromkeys(row["trace"].replace(", ", ",\n") for row in rows))
    axes.set_xticks([shares * at + (shares - 1) / 2 for at in range(len(names))], names, fontsize=8)
    axes.set_ylim(0)
    axes.set_ylabel("seconds of making, %")
    axes.legend(fontsize=8, ncols=6, loc="upper center", bbox_to_anchor=(0.5, 1.12))


def _rebuild_pressure(results: Any, axes: Any) -> None:
    rows = results["rows"]
    steps, best = range(len(rows)), max(row["requests/s"] for row in rows)
    axes.plot(steps, [row["rebuild pressure"] for row in rows], "o-", color=LOSS, label="rebuild pressure")
    axes.plot(steps, [row["hits"] for row in rows], ".-", color=BARE, label="hits")
    throughput = [row["requests/s"] / best for row in rows]
    axes.plot(steps, throughput, "D-", color=OURS, markersize=4, label="requests a second, of the best step")
    axes.set_xticks(steps, [f"{row['limit / working set']:g}" for row in rows])
    axes.set_xlabel("memory limit, in working sets")
    axes.set_ylim(0, 1.05)
    axes.legend(fontsize=8)


PICTURES: dict[str, Callable[[Any, Any], None]] = {
    "mark_unmark": _mark_unmark,
    "many_ranges": _many_ranges,
    "patch_program": _patch_program,
    "cache_under_limit": _cache_under_limit,
    "cache_hit_ratio": _cache_hit_ratio,
    "cache_worth": _cache_worth,
    "cache_speed": _cache_speed,
    "shared_speed": _shared_speed,
    "working_set": _working_set,
    "rebuild_pressure": _rebuild_pressure,
}
"""Named as the results that they show."""
