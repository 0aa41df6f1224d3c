"""Does the cache keep what is dear to make again?

    python benchmarks/cache_worth.py [--json FILE] [--quick] [--traces DIRECTORY]

Rebuild *seconds* at equal bytes: what all misses of a trace cost, as a part of what it costs without a cache. The costs
are measured (tiles of maps, queries: costs.py), or drawn over a range of fifty times whatever the size, or alike.
`VolatileCache(max_bytes)` is told a cost at each store, with the noise of a measurement (a factor, lognormal, sigma
0.3); its values really are stored. Beside it LRU and SIEVE by the byte, cachey (where it is installed) and GDSF, which
know each key's true cost, and the cache itself, told nothing. Each goal says how far below GDSF is, too. The requests
are drawn by Zipf's law; with `--traces` those of a directory's web12 and orm-busy, too. Exits with 1 where a goal is
missed.
"""

from __future__ import annotations

import argparse
import lzma
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from cache_hit_ratio import LRU, Sieve
from costs import Measured, queries, tiles
from harness import keep, steps
from replacement import gdsf

import mvolatile as mv

SHARES = (0.02, 0.1, 0.25)
"""Of the bytes of all values."""
NOISE, RANGE = 0.3, 50.0
KEYS = 4000
Trace = list[tuple[int, int, float]]
"""Key, bytes, seconds."""


def requests(values: Measured, count: int, alpha: float) -> Trace:
    random = np.random.default_rng(11)
    rows = list(values.values())
    weights = 1 / np.arange(1, len(rows) + 1) ** alpha
    order = random.permutation(len(rows))
    return [
        (int(key), *rows[key]) for key in order[random.choice(len(rows), count, p=weights / weights.sum())]
    ]


def drawn(costs: Callable[[Any], Any], spread: float) -> Measured:
    """Sizes over a range of `spread` times."""
    random = np.random.default_rng(5)
    sizes, seconds = 500 * spread ** random.random(KEYS), costs(random)
    return {key: (int(sizes[key]), float(seconds[key])) for key in range(KEYS)}


def over_a_range(random: Any) -> Any:
    return 0.001 * RANGE ** random.random(KEYS)


def alike(random: Any) -> Any:
    return np.full(KEYS, 0.01)


def of_file(path: Path, count: int) -> Trace:
    """Its requests, with costs and sizes that are drawn."""
    with lzma.open(path, "rt") as lines:
        keys = [int(line.split()[0]) for line in islice(lines, count)]
    random = np.random.default_rng(7)
    distinct = sorted(set(keys))
    sizes = dict(zip(distinct, 500 * 8 ** random.random(len(distinct)), strict=True))
    seconds = dict(zip(distinct, 0.001 * RANGE ** random.random(len(distinct)), strict=True))
    return [(key, int(sizes[key]), float(seconds[key])) for key in keys]


def traces(directory: Path | None, few: bool) -> Iterator[tuple[str, Trace]]:
    count = 20_000 if few else 60_000
    yield "tiles", requests(tiles(few), count, 0.8)
    yield "queries", requests(queries(few), count, 0.8)
    yield "drawn", requests(drawn(over_a_range, 1), count, 0.8)
    yield "drawn, sizes too", requests(drawn(over_a_range, 50), count, 0.8)
    yield "alike", requests(drawn(alike, 1), count, 0.8)
    yield "alike, not sizes", requests(drawn(alike, 50), count, 0.8)
    for name in ("web12", "orm-busy") if directory else ():
        assert directory is not None
        yield f"{name}, drawn", of_file(directory / f"{name}.txt.xz", 2 * count)


def ours(trace: Trace, capacity: int, told: bool = True) -> float:
    noise = np.random.default_rng(13).lognormal(0, NOISE, len(trace)).tolist()
    spent = 0.0
    with mv.VolatileCache[int, bytes](capacity) as cache:
        for (key, size, seconds), factor in zip(trace, noise, strict=True):
            if cache.get(key) is not None:
                continue
            spent += seconds
            if size <= capacity:
                cache.set(key, bytes(size), cost=seconds * factor if told else None)
    return spent


def simple(policy: Any, trace: Trace) -> float:
    return sum(seconds for key, size, seconds in trace if not policy.access(key, size))


def cachey(trace: Trace, capacity: int) -> float | None:
    try:
        from cachey import Cache  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    cache: Any = Cache(capacity)
    spent = 0.0
    for key, size, seconds in trace:
        if cache.get(key) is None:
            spent += seconds
            cache.put(key, True, cache.cost(size, seconds), nbytes=size)
    return spent


def measure(name: str, trace: Trace) -> Iterator[dict[str, Any]]:
    sizes = {key: size for key, size, _ in trace}
    whole = sum(seconds for *_, seconds in trace)
    for share in steps(SHARES, name):
        capacity = int(share * sum(sizes.values()))
        spent = {
            "lru": simple(LRU(capacity), trace),
            "sieve": simple(Sieve(capacity), trace),
            "cachey": cachey(trace, capacity),
            "gdsf": gdsf(trace, capacity),
            "untold": ours(trace, capacity, told=False),
            "ours": ours(trace, capacity),
        }
        parts = {label: None if seconds is None else seconds / whole for label, seconds in spent.items()}
        yield {"trace": name, "share": share, "bytes": capacity, "seconds": whole, **parts}


def goals(rows: list[dict[str, Any]]) -> dict[str, bool]:
    """As the sums over all shares of a trace, which are seconds."""
    checks = {}
    for name in dict.fromkeys(row["trace"] for row in rows):
        mine = [row for row in rows if row["trace"] == name]
        total = {
            label: sum(row[label] or float("inf") for row in mine)
            for label in ("lru", "sieve", "cachey", "gdsf", "untold", "ours")
        }
        if name.startswith("alike"):
            checks[f"{name}: at most 1 % more than untold"] = total["ours"] <= 1.01 * total["untold"]
            continue
        for peer in ("lru", "sieve", "cachey"):
            below = 1 - total["gdsf"] / total[peer]
            checks[f"{name}: 30 % below {peer} (GDSF is {below:.0%})"] = total["ours"] <= 0.7 * total[peer]
        checks[f"{name}: at most 7 % more than GDSF"] = total["ours"] <= 1.07 * total["gdsf"]
    return checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="a third of the requests, a tenth of the values")
    parser.add_argument("--traces", type=Path, help="a directory with web12.txt.xz and orm-busy.txt.xz")
    arguments = parser.parse_args()
    start = time.monotonic()
    labels = ("lru", "sieve", "cachey", "gdsf", "untold", "ours")
    print(f"{'costs':<20}{'share':>6}" + "".join(f"{label:>9}" for label in labels))
    rows = []
    for name, trace in traces(arguments.traces, arguments.quick):
        for row in measure(name, trace):
            rows.append(row)
            print(f"{name:<20}{row['share']:>6.0%}", end="")
            print("".join(f"{row[label] or float('nan'):>9.3f}" for label in labels), flush=True)
    checks = goals(rows)
    for what, met in checks.items():
        print(f"{'met   ' if met else 'MISSED'}  {what}")
    if arguments.json:
        keep(
            arguments.json,
            __file__,
            time.monotonic() - start,
            quick=arguments.quick,
            rows=rows,
            checks=checks,
        )
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
