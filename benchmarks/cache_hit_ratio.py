"""Does the cache keep the right things?

    python benchmarks/cache_hit_ratio.py [--json FILE] [--quick] [--traces DIRECTORY]

Three questions, of real traces (see traces.py). First with a bound on entries, a share of all distinct keys:
`VolatileCache(maxsize)` beside LRU, SIEVE, S3-FIFO, theine's W-TinyLFU (the group `peers`; without it, three are
left) and Belady's, which knows what comes. `--traces` adds those of a directory: `NAME.txt` or `NAME.txt.xz`, a key a
line; without it there are the three of traces.py. Then at equal bytes: LRU and SIEVE from a few lines each, by the
byte and with no overhead counted, against `VolatileCache(max_bytes)`, whose values really are stored and read.
Capacities are shares of the bytes of all distinct values. A value's size is its first one in the trace. Then the cache
under a real memory limit with nothing set: its hit ratio beside that of an LRU given, for each tenth of the trace,
as many bytes as the kernel left the cache; with `--traces` web12, too, with values of 32 KiB. Exits with 1 where the
cache is more than a point behind LRU.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness import keep, steps
from replacement import belady, lru, s3_fifo, sieve, w_tinylfu
from traces import TRACES, Request

import mvolatile as mv
from mvolatile.cache.engine import engine_of
from mvolatile.kernel.cgroup import ChildCgroup

SHARES = (0.01, 0.1, 0.25)
ALLOWED = 0.01
PEERS = {"lru": lru, "sieve": sieve, "s3_fifo": s3_fifo, "w_tinylfu": w_tinylfu}
VALUE = bytes(100)
LARGER = 32 << 10
"""Bytes of a value of web12 under a limit."""
AHEAD = 0.02
"""Under a limit, of an LRU that has as many bytes: on Twitter and web12."""


class LRU:
    """By the byte."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.bytes = capacity, 0
        self.sizes: OrderedDict[int | str, int] = OrderedDict()

    def access(self, key: int | str, size: int) -> bool:
        if key in self.sizes:
            self.sizes.move_to_end(key)
            return True
        if size <= self.capacity:
            self.sizes[key] = size
            self.bytes += size
            self.trim()
        return False

    def trim(self) -> None:
        while self.bytes > self.capacity:
            self.bytes -= self.sizes.popitem(last=False)[1]


class Sieve:
    """By the byte; NSDI 2024, figure 1, with a doubly linked list in two dictionaries."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.bytes = capacity, 0
        self.sizes: dict[int | str, int] = {}
        self.visited: set[int | str] = set()
        self.newer: dict[int | str, int | str | None] = {}
        self.older: dict[int | str, int | str | None] = {}
        self.head: int | str | None = None
        self.tail: int | str | None = None
        self.hand: int | str | None = None

    def access(self, key: int | str, size: int) -> bool:
        if key in self.sizes:
            self.visited.add(key)
            return True
        if size > self.capacity:
            return False
        while self.bytes + size > self.capacity:
            self.evict()
        self.sizes[key] = size
        self.bytes += size
        self.newer[key], self.older[key] = None, self.head
        if self.head is not None:
            self.newer[self.head] = key
        self.head = key
        if self.tail is None:
            self.tail = key
        return False

    def evict(self) -> None:
        victim = self.hand if self.hand is not None else self.tail
        while victim in self.visited:
            self.visited.discard(victim)
            victim = self.newer[victim]
            if victim is None:
                victim = self.tail
        assert victim is not None
        newer, older = self.newer.pop(victim), self.older.pop(victim)
        self.hand = newer
        if newer is None:
            self.head = older
        else:
            self.older[newer] = older
        if older is None:
            self.tail = newer
        else:
            self.newer[older] = newer
        self.bytes -= self.sizes.pop(victim)


class Ours:
    def __init__(self, capacity: int | None) -> None:
        self.cache: mv.VolatileCache[int | str, bytes] = mv.VolatileCache(capacity)

    def access(self, key: int | str, size: int) -> bool:
        value = self.cache.get(key)
        if value is not None:
            assert len(value) == size
            return True
        most = engine_of(self.cache).budget.max_bytes
        if most is None or size <= most:
            self.cache[key] = bytes(size)
        return False


def first_sizes(requests: Iterable[Request]) -> tuple[list[Request], int]:
    """The trace with one size a key, and the bytes of all keys."""
    sizes: dict[int | str, int] = {}
    trace = [(key, sizes.setdefault(key, size)) for key, size in requests]
    return trace, sum(sizes.values())


def measure(name: str, limit: int | None) -> Iterator[dict[str, object]]:
    trace, total = first_sizes(TRACES[name]())
    trace = trace[:limit]
    for share in steps(SHARES, name):
        capacity = int(share * total)
        row: dict[str, object] = {"trace": name, "share": share, "bytes": capacity, "requests": len(trace)}
        for label, policy in (("lru", LRU(capacity)), ("sieve", Sieve(capacity)), ("ours", Ours(capacity))):
            row[label] = sum(policy.access(key, size) for key, size in trace) / len(trace)
        yield row


# ---- bounded in entries


def all_traces(directory: Path | None) -> Iterator[tuple[str, list[int]]]:
    """Keys, as numbers."""
    paths = [] if directory is None else sorted(directory.glob("*.txt*"))
    for path in paths:
        with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as lines:
            yield path.name.partition(".")[0], [int(line.split()[0]) for line in lines]
    for name, requests in TRACES.items():
        numbers: dict[int | str, int] = {}
        yield name, [numbers.setdefault(key, len(numbers)) for key, _ in requests()]


def hits_of_ours(trace: Iterable[int], entries: int) -> int:
    with mv.VolatileCache[int, bytes](maxsize=entries) as cache:
        hits = 0
        for key in trace:
            if cache.get(key) is None:
                cache[key] = VALUE
            else:
                hits += 1
        return hits


def bounded_in_entries(directory: Path | None, limit: int | None) -> Iterator[dict[str, Any]]:
    every: dict[str, Any] = {**PEERS, "belady": belady, "ours": hits_of_ours}
    for name, whole in all_traces(directory):
        trace, keys = whole[:limit], len(set(whole))
        for share in steps(SHARES, name):
            entries = max(1, int(share * keys))
            row: dict[str, Any] = {"trace": name, "share": share, "entries": entries, "requests": len(trace)}
            for label, hits in every.items():
                count = hits(trace, entries)
                row[label] = None if count is None else count / len(trace)
            yield row


def report_entries(directory: Path | None, limit: int | None) -> list[dict[str, Any]]:
    """Prints each cell, and how near the best of the four it is."""
    labels = (*PEERS, "ours", "belady")
    print(f"{'trace':<14}{'share':>6}" + "".join(f"{label:>11}" for label in labels) + f"{'- best':>9}")
    rows = []
    for row in bounded_in_entries(directory, limit):
        rows.append(row)
        row["behind"] = max(row[peer] or 0 for peer in PEERS) - row["ours"]
        print(f"{row['trace']:<14}{row['share']:>6.0%}", end="")
        print(
            "".join(f"{row[label] or float('nan'):>11.3f}" for label in labels),
            f"{-row['behind']:>+8.3f}",
            flush=True,
        )
    within = [sum(row["behind"] <= points for row in rows) for points in (0.01, 0.03)]
    print(
        f"of {len(rows)} cells, {within[0]} within a point of the best of the four, {within[1]} within three; means:",
        end="",
    )
    for label in labels:
        print(f" {label} {sum(row[label] or 0 for row in rows) / len(rows):.3f}", end="")
    print()
    return rows


# ---- the kernel evicts


def under_limit(file: str, scale: int) -> None:
    """Run in a child with a limit: the cache with nothing set. The trace comes as two arrays, to leave it room."""
    keys, sizes = array("L"), array("L")
    count = Path(file).stat().st_size // 2 // keys.itemsize
    with open(file, "rb") as numbers:
        keys.fromfile(numbers, count)
        sizes.fromfile(numbers, count)
    ours = Ours(None)
    tenth = count // 10
    rows = []
    for part in range(10):
        hits = 0
        for at in range(part * tenth, (part + 1) * tenth):
            hits += ours.access(keys[at], sizes[at] * scale)
        rows.append({"hits": hits, "left": (ours.cache.cache_info().resident_bytes or 0) // scale})
    print(json.dumps({"rows": rows, "purged": ours.cache.cache_info().purged}))


def limited_traces(directory: Path | None) -> Iterator[tuple[str, Iterable[Request], int, int]]:
    """Name, requests, MiB of the limit, and by how much values are larger than the trace says."""
    yield "twitter", TRACES["twitter"](), 128, 16
    yield "twitter", TRACES["twitter"](), 64, 16
    yield "cloudphysics", TRACES["cloudphysics"](), 96, 12
    for name, keys in all_traces(directory) if directory else ():
        if name == "web12":
            for mib in (128, 64):
                yield name, ((key, LARGER) for key in keys), mib, 1


def kernel_evicts(name: str, requests: Iterable[Request], mib: int, scale: int) -> dict[str, object]:
    trace, total = first_sizes(requests)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(key for key, _ in trace))}
    with tempfile.NamedTemporaryFile() as file, ChildCgroup(mib << 20) as cgroup:
        array("L", [numbers[key] for key, _ in trace]).tofile(file)
        array("L", [size for _, size in trace]).tofile(file)
        file.flush()
        command = cgroup.wrap([sys.executable, __file__, "--under-limit", file.name, str(scale)])
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        kills = cgroup.oom_kills()
    if done.returncode:
        raise SystemExit(f"the limited child ended with {done.returncode}, {kills} kills: {done.stderr}")
    found = json.loads(done.stdout)
    policy, hits = LRU(0), 0
    tenth = len(trace) // 10
    for part, row in enumerate(found["rows"]):
        policy.capacity = row["left"]
        policy.trim()
        hits += sum(policy.access(key, size) for key, size in trace[part * tenth : (part + 1) * tenth])
    count = tenth * 10
    return {
        "trace": name,
        "limit_mib": mib,
        "scale": scale,
        "values_mib": total * scale / 2**20,
        "left_share": sum(row["left"] for row in found["rows"]) / 10 / total,
        "purged": found["purged"],
        "ours": sum(row["hits"] for row in found["rows"]) / count,
        "lru": hits / count,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--quick", action="store_true", help="the first 100,000 requests of each trace, bounded"
    )
    parser.add_argument("--traces", type=Path, help="a directory of more traces, for bounds on entries")
    parser.add_argument("--entries", action="store_true", help="bounds on entries alone")
    parser.add_argument("--under-limit", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.under_limit:
        file, scale = arguments.under_limit
        under_limit(file, int(scale))
        return 0
    start = time.monotonic()
    worst = 1.0
    entries = report_entries(arguments.traces, 100_000 if arguments.quick else None)
    if arguments.entries:
        return 0
    rows = []
    print(f"{'trace':<14}{'share':>6}{'LRU':>8}{'SIEVE':>8}{'ours':>8}{'- LRU':>8}{'- SIEVE':>9}")
    for name in TRACES:
        for row in measure(name, 100_000 if arguments.quick else None):
            rows.append(row)
            lru, sieve, ours = (float(row[key]) for key in ("lru", "sieve", "ours"))  # type: ignore[arg-type]
            worst = min(worst, ours - lru)
            share = float(row["share"])  # type: ignore[arg-type]
            print(f"{name:<14}{share:>6.0%}{lru:>8.3f}{sieve:>8.3f}{ours:>8.3f}", end="")
            print(f"{ours - lru:>+8.3f}{ours - sieve:>+9.3f}", flush=True)
    limited = []
    if not arguments.quick:
        for name, requests, mib, scale in limited_traces(arguments.traces):
            told: dict[str, Any] = kernel_evicts(name, requests, mib, scale)
            limited.append(told)
            values, left, found, lru = (told[key] for key in ("values_mib", "left_share", "ours", "lru"))
            print(f"{name} x {scale}, {values:.0f} MiB of values under {mib} MiB, nothing set: ", end="")
            print(f"the kernel left {left:.0%}; ours {found:.3f}, LRU given as much {lru:.3f}", flush=True)
            ahead = float(found) - float(lru)
            worst = min(worst, ahead)
            if name != "cloudphysics":
                print(
                    f"{'met   ' if ahead >= AHEAD else 'MISSED'}  {name}, {mib} MiB: two points ahead: {ahead:+.3f}"
                )
    print(f"at worst {worst:+.3f} against LRU (allowed -{ALLOWED})")
    if arguments.json:
        keep(
            arguments.json, __file__, time.monotonic() - start, bounded=rows, limited=limited, entries=entries
        )
    return 0 if worst >= -ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
