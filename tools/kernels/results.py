"""What each cell gave, and the file that keeps it from one run to the next."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .matrix import AXES, Cell

__all__ = ["NOT_RUN", "RUNNING", "Code", "Result", "good", "key", "load", "not_run", "reasons", "save"]

RUNNING = "running"
"""The series of the kernel that runs this."""

NOT_RUN = "not run yet"
"""The error of a cell that is in the plan."""


@dataclass(frozen=True, slots=True)
class Code:
    """What ran: the release that it is on the way to, and its commit, with a ``+`` if files differed from it."""

    release: str
    commit: str


@dataclass(slots=True)
class Result:
    """One cell on one kernel. `error` is why it did not come to an end, or None."""

    series: str
    cell: dict[str, str]
    date: str
    kernel: str = ""
    release: str = ""
    commit: str = ""
    collected: int = 0
    passed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Test -> the end of what pytest says."""
    skips: dict[str, int] = field(default_factory=dict)
    """Reason -> how many tests."""
    seconds: float = 0.0
    error: str | None = "it ended before the tests did"

    @property
    def failed(self) -> int:
        """How many tests failed."""
        return len(self.failures)

    @property
    def skipped(self) -> int:
        """How many tests were skipped."""
        return sum(self.skips.values())

    @property
    def good(self) -> bool:
        """Whether all tests ran and none failed."""
        return self.error is None and not self.failures and self.passed > 0

    @property
    def key(self) -> tuple[str, ...]:
        """What a later run of the same cell replaces."""
        return key(self.series, self.cell)

    def take(self, line: dict[str, Any]) -> None:
        """One line of `guest/run.py`."""
        if "error" in line:
            self.error = line["error"]
        elif "done" in line:
            self.seconds = line["seconds"]
            self.error = None if line["done"] in (0, 1) else f"pytest ended with {line['done']}"
        elif "kernel" in line:
            self.kernel = line["kernel"]
            self.cell = {**line["observed"], **self.cell}
        elif "collected" in line:
            self.collected = line["collected"]
        elif line["outcome"] == "passed":
            self.passed += 1
        elif line["outcome"] == "failed":
            self.failures[line["test"]] = line["reason"]
        else:
            self.skips[line["reason"]] = self.skips.get(line["reason"], 0) + 1


def key(series: str, cell: Mapping[str, str]) -> tuple[str, ...]:
    """What names a cell. The running kernel's other conditions are what they happen to be."""
    conditions = ("tier", "user") if series == RUNNING else AXES
    return (series, *(cell[name] for name in conditions))


def good(path: Path, holds: Callable[[Code], bool]) -> set[tuple[str, ...]]:
    """The keys of the good results in `path` whose code `holds`."""
    return {one.key for one in load(path) if one.good and holds(Code(one.release, one.commit))}


def load(path: Path) -> list[Result]:
    """The results kept in `path`, none if there is no such file."""
    return [Result(**one) for one in json.loads(path.read_text())] if path.exists() else []


def save(path: Path, results: Iterable[Result]) -> list[Result]:
    """Add `results` to those in `path`, each instead of an older one of the same cell; answers all."""
    kept = {one.key: one for one in [*load(path), *results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(one) for one in kept.values()], indent=1) + "\n")
    return list(kept.values())


def not_run(series: str, kernel: str, planned: Iterable[Cell], path: Path) -> list[Result]:
    """A result that says so for each planned cell of which `path` has none."""
    found = {one.key for one in load(path)}
    waiting = [Result(series, cell.as_dict(), "", kernel, error=NOT_RUN) for cell in planned]
    return [one for one in waiting if one.key not in found]


def reasons(results: Iterable[Result]) -> Counter[str]:
    """Why tests were skipped, over all cells."""
    total: Counter[str] = Counter()
    for one in results:
        for reason, count in one.skips.items():
            # What a machine calls its cgroups tells nothing to others.
            total[re.sub(r"(/sys/fs/cgroup/\w+)[^\s')]*", r"\1/...", reason).replace("|", "/")] += count
    return total
