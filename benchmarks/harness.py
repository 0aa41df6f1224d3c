"""What the benchmarks share: C baselines, interleaved timing, the machine's facts, and results kept as JSON.

A figure is the *least* of many repeats: what disturbs a run only ever adds to it. Contestants of one ratio are
timed in turns in one process, so that a slow minute hits all of them; medians are kept beside the minima.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Goal:
    """`value` must be at least (or at most) `limit`."""

    what: str
    value: float
    limit: float
    at_least: bool
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'met   ' if self.met else 'MISSED'} {self.what}: {self.value:.4g} {self.unit} ({sign} {self.limit:g})"


def compile_c(source: str) -> ctypes.CDLL:
    """Load `source`, a C file beside the scripts; compiled anew when it changes."""
    text = (HERE / source).read_bytes()
    built = Path(tempfile.gettempdir()) / f"mvolatile-bench-{os.getuid()}"
    built.mkdir(mode=0o700, exist_ok=True)
    if built.stat().st_uid != os.getuid():
        raise SystemExit(f"{built} belongs to somebody else")
    library = built / f"{Path(source).stem}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        compiler = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc").split()[0]
        partial = library.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [
                compiler,
                "-O2",
                "-std=gnu11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-shared",
                "-fPIC",
                "-o",
                partial,
                HERE / source,
            ],
            check=True,
        )
        partial.replace(library)
    return ctypes.CDLL(str(library), use_errno=True)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], *, seconds: float, least: int = 7
) -> dict[str, Any]:
    """Time each call, in turns, for about `seconds` in all; a short call is repeated until it takes 200 us.

    Answers ``{name: {"least": ..., "median": ..., "repeats": ...}}`` in seconds a call.
    """
    loops = {}
    for name, call in contestants.items():
        call()
        took: list[float] = []
        while sum(took) < 200e-6:  # the machine may do something else during one of them
            start = time.perf_counter()
            call()
            took.append(time.perf_counter() - start)
        loops[name] = max(1, int(200e-6 / min(took)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < least:
        for name, call in contestants.items():
            turns = range(loops[name])
            start = time.perf_counter()
            for _ in turns:
                call()
            times[name].append((time.perf_counter() - start) / len(turns))
    return {
        name: {"least": min(found), "median": statistics.median(found), "repeats": len(found)}
        for name, found in times.items()
    }


def steps(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, with a bar on a terminal's standard error as long as they last."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, console=Console(stderr=True), transient=True)


def keep(path: Path, script: str, took: float, **figures: Any) -> None:
    """Write the results of a script that took so many seconds, with the machine named."""
    head = {"command": f"python benchmarks/{Path(script).name}", "machine": machine(), "took": round(took)}
    path.write_text(json.dumps({**head, **figures}, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Where and on what this ran."""
    import mvolatile

    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) >> 10 for line in _lines("/proc/meminfo")), 0)
    return {
        "kernel": platform.release(),
        "cpu": model,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "python": platform.python_version(),
        "tier": mvolatile.features().tier,
        "thp": " ".join(_lines("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def finish(
    script: str, question: str, rows: Iterable[Mapping[str, Any]], goals: Iterable[Goal], **more: Any
) -> int:
    """Print the rows, keep the result beside the script, answer the exit status: 1 if a goal was missed."""
    rows, goals = list(rows), list(goals)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [columns, *([_text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    print(question + "\n")
    for line in table:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    print("\n" + "\n".join(map(str, goals)))
    path = Path(script).with_suffix(".json")
    result = {
        "question": question,
        "command": f"python benchmarks/{Path(script).name}",
        "machine": machine(),
        "rows": rows,
        "goals": [{**asdict(goal), "met": goal.met} for goal in goals],
        **more,
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(goal.met for goal in goals) else 1


def _text(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def parser(doc: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=(doc or "").partition("\n")[0])


def need_userfaultfd() -> None:
    import mvolatile

    if mvolatile.features().tier != "userfaultfd":
        sys.exit(
            "this benchmark measures the tier `userfaultfd`, which this kernel or container does not give"
        )
