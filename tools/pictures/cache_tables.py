"""The measured tables of the cache's page, from the results that lie beside the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from .benchmarks import RESULTS

__all__ = ["text"]

_NAMES = {
    "lru_cache": "`lru_cache`, no bound",
    "cachetools": "cachetools LRU",
    "volatile_cache": "**`volatile_cache`, nothing set**",
}


def text() -> str:
    """The whole, in Markdown."""
    return "\n".join(
        [*_limit(_results("under_limit")), *_hits(_results("hit_ratio")), *_speed(_results("speed"))]
    )


def _results(name: str) -> Any:
    return json.loads((RESULTS / f"cache_{name}.json").read_text())


def _table(head: str, rows: Iterable[Iterable[object]]) -> Iterator[str]:
    columns = head.split("|")
    yield f"|{head}|"
    yield "|" + "|".join("-" if i == 0 else "-:" for i in range(len(columns))) + "|"
    for row in rows:
        yield "|" + "|".join(map(str, row)) + "|"
    yield ""


def _goals(checks: dict[str, bool]) -> Iterator[str]:
    yield from _table("goal|met", ((what, "yes" if met else "**no**") for what, met in checks.items()))


def _where(results: Any) -> Iterator[str]:
    machine = results["machine"]
    yield (
        f"`{results['command']}`, {machine['date']}, Linux {machine['kernel']}, {machine['cpu']}, "
        f"{machine['cpus']} CPUs, {machine['memory_mib']:,} MiB, Python {machine['python']}, tier "
        f"`{machine['tier']}`, huge pages {machine['thp']}, load {machine['load']} when it ended."
    )
    yield ""


def _limit(results: Any) -> Iterator[str]:
    yield "### Life under a limit"
    yield ""
    yield (
        f"{results['requests']:,} requests under a limit of {results['limit_mib']} MiB: seconds in all and hits; "
        f"then with a neighbour that takes {results['taken_mib']} MiB for the second half."
    )
    yield ""
    beside = {(row["cache"], row["cap_mib"]): row for row in results["rows"] if row["neighbour"]}

    def rows() -> Iterator[list[str]]:
        for row in results["rows"]:
            if row["neighbour"]:
                continue
            name = _NAMES.get(row["cache"], row["cache"])
            name += f", {row['cap_mib']} MiB" if row["cap_mib"] else ""
            cells = [name]
            for run in (row, beside[row["cache"], row["cap_mib"]]):
                killed = "killed" if run["kills"] else "failed"
                cells += (
                    [killed, ""] if run["seconds"] is None else [f"{run['seconds']:.1f}", f"{run['hits']:,}"]
                )
            yield cells

    yield from _table("|alone, s|hits|with a neighbour, s|hits", rows())
    ratios = results["ratios"]
    yield (
        f"The time of `volatile_cache` is {ratios['alone']:.2f} of the best of the others' alone, "
        f"{ratios['neighbour']:.2f} with a neighbour."
    )
    yield ""
    yield from _goals(results["checks"])
    yield from _where(results)


PEERS = ("lru", "sieve", "s3_fifo", "w_tinylfu")


def _entries(rows: Any) -> Iterator[str]:
    yield "At equal entries, `maxsize` being a share of all keys of the trace; W-TinyLFU is theine's:"
    yield ""
    keys = (*PEERS, "ours", "belady")
    means = [sum(row[key] or 0 for row in rows) / len(rows) for key in keys]
    yield from _table(
        "trace|share|LRU, %|SIEVE, %|S3-FIFO, %|W-TinyLFU, %|`VolatileCache`, %|Belady, %|against the best, points",
        [
            [row["trace"], f"{row['share']:.0%}"]
            + ["" if row[key] is None else f"{100 * row[key]:.1f}" for key in keys]
            + [f"{100 * (row['ours'] - max(row[peer] or 0 for peer in PEERS)):+.1f}"]
            for row in rows
        ]
        + [["mean", ""] + [f"{100 * mean:.1f}" for mean in means] + [""]],
    )


def _hits(results: Any) -> Iterator[str]:
    yield "### Hit ratio"
    yield ""
    yield from _entries(results["entries"])
    yield "At equal bytes, `max_bytes` being a share of the bytes of all values of the trace:"
    yield ""
    yield from _table(
        "trace|share|LRU, %|SIEVE, %|`VolatileCache`, %|against LRU, points",
        (
            [row["trace"], f"{row['share']:.0%}"]
            + [f"{100 * row[key]:.1f}" for key in ("lru", "sieve", "ours")]
            + [f"{100 * (row['ours'] - row['lru']):+.1f}"]
            for row in results["bounded"]
        ),
    )
    yield "Under a real limit with nothing set, beside an LRU that is given as many bytes as the kernel left the cache:"
    yield ""
    yield from _table(
        "trace|values, MiB|limit, MiB|LRU, %|`VolatileCache`, %",
        (
            [f"{row['trace']} x {row['scale']}", f"{row['values_mib']:,.0f}", row["limit_mib"]]
            + [f"{100 * row[key]:.1f}" for key in ("lru", "ours")]
            for row in results["limited"]
        ),
    )
    yield from _where(results)


def _speed(results: Any) -> Iterator[str]:
    yield "### Speed"
    yield ""
    small = results["small_hits"]
    ours = small["ours, volatile"]
    yield from _table(
        "a hit, 100 bytes|ns|beside ours",
        (
            [name, f"{1e9 * seconds:,.0f}", f"{seconds / ours:.2f}"]
            for name, seconds in sorted(small.items(), key=lambda hit: float(hit[1]))
        ),
    )
    if results["missing"]:
        yield f"Not installed: {', '.join(results['missing'])}."
        yield ""
    yield from _table(
        "array|hit, µs|unpickling it, µs|that is|set, ms|memcpy into fresh memory, ms|rate beside memcpy",
        (
            [f"{mib} MiB", f"{1e6 * row['hit']:.1f}", f"{1e6 * row['unpickle']:,.0f}"]
            + [f"{row['unpickle'] / row['hit']:,.0f} x"]
            + [f"{1e3 * row['set']:.2f}", f"{1e3 * row['memcpy_fresh']:.2f}"]
            + [f"{row['memcpy_fresh'] / row['set']:.2f}"]
            for mib, row in results["arrays"].items()
        ),
    )
    for what, row in results.get("readers", {}).items():
        yield (
            f"Two threads that {what} arrays of 8 MiB get {row['cache']:.2f} times as many done as one; "
            f"with arrays from a dict {row['dict']:.2f} times."
        )
        yield ""
    if through := results.get("calls"):
        yield from _table(
            "a hit, 100 bytes, through a decorator|ns",
            ([name, f"{1e9 * seconds:,.0f}"] for name, seconds in through.items()),
        )
    overhead, entries = results["index_bytes"], results["entries"]
    yield f"The index takes {overhead:.0f} bytes an entry beside the key, at {entries:,} entries."
    yield ""
    yield from _goals(results["checks"])
    yield from _where(results)
