"""What Prometheus calls our metrics, of private and of shared caches.

What a shared cache's keeper knows is the same in every process and not to be added up, so it has names of its own,
``mvolatile_shared_cache_...``. There it is a gauge even where it only grows: the multiprocess mode of prometheus_client
adds counters up, and of gauges tells the largest. They begin anew with the next keeper.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

from ..metrics import AGE_BOUNDS, KEEPERS, METRICS, CacheFigures, Metric, value

__all__ = ["ALL", "Ages", "Series", "samples"]

_UNITS = {"s": "seconds", "By": "bytes"}
_BOUNDS = (*map(str, AGE_BOUNDS), "+Inf")


class Series(NamedTuple):
    """A family; `added_up`: over the processes of a program, as its counters are anyway."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    unit: str
    labels: tuple[str, ...]
    added_up: bool


class Ages(NamedTuple):
    """What a histogram has: counts by class, and their sum in seconds."""

    counts: tuple[int, ...]
    sum: float


@cache
def _series(metric: Metric, kind: str) -> Series:
    labels = ("cache", "kind", *(name for name, _ in metric.labels))
    if kind != "shared" or metric.field not in KEEPERS:
        unit = _UNITS.get(metric.unit, "")
        added_up = metric.name != "rebuild_pressure"
        return Series(f"mvolatile_cache_{metric.name}", metric.kind, metric.help, unit, labels, added_up)
    name, unit = f"mvolatile_shared_cache_{metric.name}", _UNITS.get(metric.unit, "")
    if metric.kind == "histogram":
        return Series("mvolatile_shared_cache_lost_ages", "gauge", _AGES, "", (*labels, "at_most"), False)
    return Series(name, "gauge", metric.help, unit, labels, False)


_AGES = "Values that the kernel took, by their age in seconds at most."
ALL = tuple(dict.fromkeys(_series(metric, kind) for metric in METRICS for kind in ("volatile", "shared")))


def samples(figures: CacheFigures) -> Iterator[tuple[Series, tuple[str, ...], Any]]:
    """Each with the values of its labels: a number, or `Ages`."""
    for metric in METRICS:
        series = _series(metric, figures.kind)
        labels = (figures.name, figures.kind, *(label for _, label in metric.labels))
        if metric.kind != "histogram":
            yield series, labels, value(metric, figures)
        elif series.kind == "histogram":
            yield series, labels, Ages(figures.lost_ages, figures.lost_age_sum)
        else:
            for bound, total in buckets(figures.lost_ages):
                yield series, (*labels, bound), total


def buckets(counts: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """As Prometheus has them: so many up to each bound."""
    total = 0
    for bound, count in zip(_BOUNDS, counts, strict=True):
        total += count
        yield bound, float(total)
