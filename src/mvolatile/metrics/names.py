"""The metrics: one table for every monitoring system, the dashboard, the alert rules and the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from .snapshot import CacheFigures

__all__ = ["KEEPERS", "METRICS", "Metric", "value"]


class Metric(NamedTuple):
    """`field`: of `CacheFigures`; `labels`: beside ``cache`` and ``kind``. Names are Prometheus' without its suffixes:
    a counter's gets ``_total`` there.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    field: str
    help: str
    unit: str = ""
    labels: tuple[tuple[str, str], ...] = ()


METRICS = (
    Metric("requests", "counter", "hits", "Reads of the cache.", "{request}", (("result", "hit"),)),
    Metric("requests", "counter", "misses", "Reads of the cache.", "{request}", (("result", "miss"),)),
    Metric("stores", "counter", "stores", "Values stored.", "{entry}"),
    Metric("departures", "counter", "lost", "Entries that left.", "{entry}", (("reason", "lost"),)),
    Metric("departures", "counter", "evicted", "Entries that left.", "{entry}", (("reason", "evicted"),)),
    Metric("departures", "counter", "expired", "Entries that left.", "{entry}", (("reason", "expired"),)),
    Metric("saved_seconds", "counter", "saved_seconds", "Time that making took for what hits gave.", "s"),
    Metric("spent_seconds", "counter", "spent_seconds", "Time that making values took.", "s"),
    Metric("lost_seconds", "counter", "lost_seconds", "Time that making took for what the kernel took.", "s"),
    Metric(
        "rebuild_seconds",
        "counter",
        "rebuild_seconds",
        "Time in which at least one caller made again what the kernel had taken.",
        "s",
    ),
    Metric("entries", "gauge", "entries", "Entries not known to be lost.", "{entry}"),
    Metric("bytes", "gauge", "bytes", "Size of the values.", "By"),
    Metric("resident_bytes", "gauge", "resident_bytes", "Size of the memory that is in RAM.", "By"),
    Metric("pinned_bytes", "gauge", "pinned_bytes", "Size of what the kernel cannot take now.", "By"),
    Metric(
        "rebuild_pressure", "gauge", "avg10", "Share of time spent on rebuilds.", "1", (("window", "10s"),)
    ),
    Metric(
        "rebuild_pressure", "gauge", "avg60", "Share of time spent on rebuilds.", "1", (("window", "60s"),)
    ),
    Metric(
        "rebuild_pressure", "gauge", "avg300", "Share of time spent on rebuilds.", "1", (("window", "300s"),)
    ),
    Metric("lost_age_seconds", "histogram", "lost_ages", "Age of values when the kernel took them.", "s"),
)
"""In the order in which they are told."""

KEEPERS = frozenset(
    ("stores", "lost", "evicted", "expired", "lost_seconds", "lost_ages")
    + ("entries", "bytes", "resident_bytes", "pinned_bytes")
)
"""Fields that of a shared cache are its keeper's: the same in every process, and not to be added up."""


def value(metric: Metric, figures: CacheFigures) -> float:
    """Of a counter or gauge."""
    owner = figures.rebuild if metric.name == "rebuild_pressure" else figures
    return float(getattr(owner, metric.field))
