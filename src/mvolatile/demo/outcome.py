"""What a run has shown, as plain data: the table, the picture and ``--json`` are made from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["End", "Outcome", "Report", "Sample"]


class End(StrEnum):
    """How a contender's run ended."""

    SERVED = "served"
    KILLED = "killed"
    """By the kernel, which found no memory for the cgroup."""
    OVER = "over limit"
    """Nothing could enforce the limit, so the run was ended where the kernel would have killed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. Counts are totals so far; `cache_bytes` and `neighbour_bytes` are the private memory of the
    two processes in RAM, `charged_bytes` what the cgroup counts (None without one).
    """

    seconds: float
    requests: int
    hits: int
    rebuilt: int
    cache_bytes: int
    neighbour_bytes: int
    charged_bytes: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One contender's run. requests = hits + built + rebuilt; `wrong` counts tiles unlike the map.

    `cap` is its guessed bound in bytes, None if it needs none. `peak_bytes` is the most that was charged to
    the cgroup, or the most that the two processes held where there is none. After a kill the counts are those
    of the last report, at most `REPORT_EVERY` requests before it. `said` is what the server wrote to standard
    error: warnings, or why it failed.
    """

    name: str
    label: str
    cap: int | None
    end: End
    requests: int
    hits: int
    built: int
    rebuilt: int
    wrong: int
    seconds: float
    peak_bytes: int
    samples: tuple[Sample, ...] = ()
    said: str | None = None

    @property
    def hit_rate(self) -> float:
        """Share of the served requests that needed no decoding."""
        return self.hits / self.requests if self.requests else 0.0

    def recent_hit_rates(self, window: int) -> Iterator[tuple[int, float]]:
        """For each sample, its request number and the share of hits in the last `window` requests or so."""
        first = 0
        for sample in self.samples:
            while self.samples[first + 1].requests <= sample.requests - window:
                first += 1
            since = self.samples[first]
            if sample.requests > since.requests:
                yield sample.requests, (sample.hits - since.hits) / (sample.requests - since.requests)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole demo. `tier` is the kernel mechanism in use, `enforced_by` what kept the limit,
    `why_not_cgroup` why that is not a cgroup.

    `workers` served the stream together, under the one limit. `kept_bytes` is what all tiles of the stream would take
    decoded. `neighbour_requests` are the request numbers between which the neighbour held its `neighbour_bytes`.
    """

    seed: int
    requests: int
    limit: int
    tiles: int
    kept_bytes: int
    neighbour_bytes: int
    neighbour_requests: tuple[int, int]
    tier: str
    enforced_by: str
    why_not_cgroup: str | None
    outcomes: list[Outcome] = field(default_factory=list)
    workers: int = 1

    def as_json(self) -> dict[str, Any]:
        """For ``json.dumps``; each outcome gains its `hit_rate`."""
        plain = asdict(self)
        for outcome, row in zip(self.outcomes, plain["outcomes"], strict=True):
            row["hit_rate"] = round(outcome.hit_rate, 4)
        return plain
