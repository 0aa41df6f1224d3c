"""What do those who watch a program see of its caches, and what does it cost?

    python benchmarks/operators.py [--only NAME ...] [--gigabytes 20]

- ``poller``: gigabytes of values of 2 kB to 3 MB pass through a cache under a limit on RSS; another process looks at
  its RSS each 100 ms, as whoever recycles processes does. Repeated until there were a thousand looks.
- ``scrape``: eight processes of three caches each, in prometheus_client's multiprocess mode; what one scrape takes.
  And what one look at the caches of a process takes, which is done each second where they are published.
- ``hit``: instructions of a hit, by valgrind, of the core as it is, of one that does not count the seconds saved, and
  of one that counts nothing, which are built here from changed copies of its source.
- ``lowered``: a cgroup's limit is lowered to half while a program in it fills a cache and reads it: how long the kernel
  takes to accept that, at worst, without `trim` and with it.
- ``given up``: hits of requests by Zipf's law under a limit on RSS, beside those of a cache that may hold as many
  bytes as that one did in the end, and has no limit.

Exits with 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import HERE, MIB, Goal, finish, parser, steps

ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))

Found = tuple[list[dict[str, Any]], list[Goal]]


def row(what: str, measured: float, unit: str) -> dict[str, Any]:
    """One line of the table."""
    return {"what": what, "measured": measured, "unit": unit}


# ---- who polls


def poller(gigabytes: float) -> Found:
    """`tests/support/polling.py` runs it, as a test of the suite does with less."""
    from support.polling import LIMIT, OWN, Looks, poll_while_passing

    seen: list[Looks] = []
    while sum(one.all for one in seen) < 1000 and len(seen) < 10:
        seen.append(poll_while_passing(int(gigabytes * 1e9)))
    looks, above = sum(one.all for one in seen), sum(one.above for one in seen)
    rows = [
        row(f"values through the cache, {len(seen)} times {gigabytes:g} GB", gigabytes * len(seen), "GB"),
        row("looks at RSS", looks, ""),
        row("of these above the limit", above, ""),
        row("highest RSS beyond the limit", (max(one.highest for one in seen) - LIMIT) / MIB, "MiB"),
        row("the kernel's own peak beyond the limit", (max(one.peak for one in seen) - LIMIT) / MIB, "MiB"),
    ]
    allowed = (
        f"looks above the limit of {LIMIT // MIB} MiB and the {OWN // MIB} MiB that the program may take"
    )
    return rows, [Goal(f"{allowed}, of 1,000", 1000 * above / looks, 1, False, "looks")]


# ---- a scrape

PUBLISHES = """
import sys
import mvolatile as mv
from mvolatile.integrations.prometheus import Publisher
caches = [mv.VolatileCache(name=name) for name in ("pages", "queries")]
shared = mv.SharedCache("tiles")
for cache in (*caches, shared):
    for key in range(2000):
        cache[key] = b"v" * 2000
        cache.get(key)
Publisher().publish()
print("up", flush=True)
sys.stdin.readline()
"""
PROCESSES, LOOKS = 8, 200


def scrape(_: float) -> Found:
    from prometheus_client import CollectorRegistry, generate_latest, multiprocess

    from support.keepers import end_keepers

    with tempfile.TemporaryDirectory(prefix="mvb") as name, ExitStack() as stack:
        counts, runtime = Path(name, "counts"), Path(name, "keepers")
        counts.mkdir()
        runtime.mkdir(0o700)
        stack.callback(end_keepers, runtime)
        environ = {
            **os.environ,
            "PROMETHEUS_MULTIPROC_DIR": str(counts),
            "MVOLATILE_RUNTIME_DIR": str(runtime),
        }
        for _ in range(PROCESSES):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PUBLISHES],
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        took = []
        for _ in steps(range(LOOKS), "scraping"):
            began = time.perf_counter()
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=str(counts))  # type: ignore[no-untyped-call]
            text = generate_latest(registry)
            took.append(time.perf_counter() - began)
        stores = re.findall(rb'stores_total\{cache="pages",kind="volatile"\} (\S+)', text)
        assert [float(one) for one in stores] == [2000 * PROCESSES], stores
    least = 1e3 * min(took)
    look = 1e3 * _look()
    rows = [
        row(f"one scrape of {PROCESSES} processes", least, "ms"),
        row("one look at the caches of a process", look, "ms"),
    ]
    return rows, [
        Goal(f"one scrape of {PROCESSES} processes of 3 caches", least, 20, False, "ms"),
        Goal("a look each second, of a processor's time", look / 10, 1, False, "%"),
    ]


def _look() -> float:
    import mvolatile as mv
    from mvolatile.metrics import figures

    caches = [mv.VolatileCache[int, bytes](name=name) for name in ("pages", "queries", "tiles")]
    for cache in caches:
        for key in range(2000):
            cache[key] = b"v" * 2000

    def look() -> float:
        began = time.perf_counter()
        figures()
        return time.perf_counter() - began

    least = min(look() for _ in range(LOOKS))
    for cache in caches:
        cache.close()
    return least


# ---- a hit

HITS = """
import os, sys
import mvolatile as mv
cache = mv.VolatileCache()
cache["k"] = b"x" * 100
get = cache.get
for _ in range(int(sys.argv[1])):
    get("k")
os._exit(0)
"""
FEW, MANY = 1000, 3000
COUNTS = r"self->hits\+\+;\n    if \(cost\) self->saved \+= [^;]+;", "(void)cost;"
SAVES = r"(?:if \(cost\) )?self->saved \+= [^;]+;", "(void)cost;"
CLASS = r"found\.cost = visit\(self, slot\);", "(void)visit(self, slot);"
CORES: dict[str, tuple[tuple[str, str], ...]] = {
    "as it is": (),
    "without the seconds saved": (SAVES, CLASS),
    "without counts": (COUNTS, CLASS),
}


def hit(_: float) -> Found:
    if not shutil.which("valgrind"):
        sys.exit("this counts instructions with valgrind, which is not here")
    counted = {}
    with tempfile.TemporaryDirectory(prefix="mvb") as name:
        for core, changes in steps(list(CORES.items()), "building and counting"):
            built = _built(Path(name, core.replace(" ", "-")), changes)
            counted[core] = (_instructions(built, MANY) - _instructions(built, FEW)) / (MANY - FEW)
    whole = counted["as it is"]
    rows = [row(f"a hit, the core {core}", number, "instructions") for core, number in counted.items()]
    part = {core: 100 * (whole - number) / whole for core, number in counted.items()}
    rows.append(row("of a hit, all that is counted", part["without counts"], "%"))
    return rows, [
        Goal("of a hit, what metrics added", part["without the seconds saved"], 1, False, "%"),
    ]


def _built(directory: Path, changes: tuple[tuple[str, str], ...]) -> Path:
    """The library with a core of changed source; each change must be found once."""
    shutil.copytree(
        ROOT / "src", directory / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, directory)
    sources = list((directory / "src/mvolatile/_core/cache").glob("*.c"))
    for before, after in changes:
        (source,) = (one for one in sources if re.search(before, one.read_text()))
        source.write_text(re.sub(before, after, source.read_text()))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "src"


def _instructions(library: Path, hits: int) -> int:
    """Of `get` alone and what it calls: an interpreter's start is never twice the same."""
    options = ["--tool=callgrind", "--toggle-collect=reader_get", "--callgrind-out-file=/dev/null"]
    command = ["valgrind", *options, sys.executable, "-c", HITS]
    environ = {**os.environ, "PYTHONPATH": str(library), "PYTHONHASHSEED": "1"}
    done = subprocess.run([*command, str(hits)], env=environ, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


# ---- a limit that is lowered

TIMES = 10


def lowered(_: float) -> Found:
    """`tests/support/lowering.py` runs it, as a test of the suite does once."""
    from mvolatile.kernel import trim
    from mvolatile.kernel.cgroup import ChildCgroup
    from support.cgroups import why_not
    from support.lowering import lower_to_half

    if (reason := why_not()) is not None:
        print(f"no limit is lowered: {reason}", file=sys.stderr)
        return [], []

    def trimmed(cgroup: ChildCgroup, target: int) -> None:
        for pid in trim.cgroup_processes(cgroup.path):
            trim.trim_process(pid, lambda: trim.cgroup_usage(cgroup.path) <= target)

    plain = [lower_to_half() for _ in steps(range(TIMES), "lowering")]
    with_trim = [lower_to_half(before=trimmed) for _ in steps(range(TIMES), "trimming and lowering")]
    worst = max(one.seconds for one in plain)
    rows = [
        row(f"a limit lowered to half is accepted after, at worst of {TIMES}", worst, "s"),
        row("the same, trimmed first", max(one.seconds for one in with_trim), "s"),
        row("processes killed meanwhile", sum(one.killed for one in [*plain, *with_trim]), ""),
    ]
    return rows, [
        Goal("a limit lowered to half under load is accepted after", worst, 2, False, "s"),
        Goal("processes killed for it", rows[-1]["measured"], 0, False, ""),
    ]


# ---- what is given up

VALUE, KEYS, REQUESTS, LIMIT = 50_000, 4000, 60_000, 48 * MIB


def _hits(cache: Any) -> Iterator[int]:
    """After each half of the requests: the first fills it."""
    source = random.Random(5)
    keys = source.choices(range(KEYS), [1 / (key + 10) for key in range(KEYS)], k=REQUESTS)
    for at, key in enumerate(keys, 1):
        if cache.get(key) is None:
            cache[key] = key.to_bytes(2, "little") * (VALUE // 2)
        if at % (REQUESTS // 2) == 0:
            yield cache.cache_info().hits


def given_up(_: float) -> Found:
    import mvolatile as mv

    mv.set_resident_limit(LIMIT)
    with mv.VolatileCache[int, bytes](name="limited") as cache:
        first, last = _hits(cache)
        limited, held = last - first, cache.cache_info().currsize * VALUE
    mv.set_resident_limit(None)
    with mv.VolatileCache[int, bytes](name="bounded", max_bytes=held) as cache:
        first, last = _hits(cache)
        bounded = last - first
    requests = REQUESTS // 2
    rows = [
        row(f"bytes of values under a limit of {LIMIT // MIB} MiB", held / MIB, "MiB"),
        row("hits of requests, under the limit", 100 * limited / requests, "%"),
        row("hits of requests, with as many bytes and no limit", 100 * bounded / requests, "%"),
    ]
    return rows, [
        Goal("hits under the limit, to those with as many bytes", limited / bounded, 0.98, True),
        Goal("of the limit, what is held", held / LIMIT, 0.75, True, ""),
    ]


PARTS: dict[str, Callable[[float], Found]] = {
    "poller": poller,
    "scrape": scrape,
    "hit": hit,
    "lowered": lowered,
    "given up": given_up,
}


def main() -> int:
    options: argparse.ArgumentParser = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, help="print these alone, and keep nothing")
    options.add_argument("--gigabytes", type=float, default=20, help="of values that pass while one polls")
    arguments = options.parse_args()
    rows: list[dict[str, Any]] = []
    goals: list[Goal] = []
    for name in arguments.only or PARTS:
        more, wanted = PARTS[name](arguments.gigabytes)
        rows, goals = rows + more, goals + wanted
        for one in more:
            print(f"{one['what']}: {one['measured']:,.5g} {one['unit']}", flush=True)
    if arguments.only:
        print(*goals, sep="\n")
        return 0 if all(goal.met for goal in goals) else 1
    question = "What do those who watch a program see of its caches, and what does it cost?"
    return finish(__file__, question, rows, goals)


if __name__ == "__main__":
    sys.exit(main())
