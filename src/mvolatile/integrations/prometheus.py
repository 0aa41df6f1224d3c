"""The caches of a program among its Prometheus metrics; needs ``pip install mvolatile[prometheus]``.

>>> from prometheus_client import CollectorRegistry
>>> from mvolatile.integrations.prometheus import register
>>> register(CollectorRegistry())

In a program of one process, `Collector` asks the caches when it is scraped. Under gunicorn or another server of several
processes, prometheus_client's own multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``) adds up what each process leaves in
files, dead ones too: `Publisher` brings what the caches count there, every second and at the end. `register` does what
the program's mode asks for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector as BaseCollector

from .. import metrics
from ..metrics import AGE_BOUNDS, METRICS, CacheFigures, Metric, Ticker, value

__all__ = ["Collector", "Publisher", "register"]


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Have the caches' metrics in `registry`: once in a program, before or after its server forks.

    Errors: `ValueError` if they are there already.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _ticker.add(Publisher(registry).publish)
    else:
        registry.register(Collector())


class Collector(BaseCollector):
    """What `mvolatile.metrics.figures` tells, when it is asked for. For a program of one process."""

    def describe(self) -> Iterator[Family]:
        """The names, without asking the caches."""
        return iter(_families([]).values())

    def collect(self) -> Iterator[Family]:
        """Threads: any."""
        return iter(_families(metrics.figures()).values())


class Publisher:
    """Brings the figures into metrics of prometheus_client, which its multiprocess mode adds up.

    Counters go on where a cache is cleared or closed. Gauges are those of living processes, of a private cache added
    up; of a shared one, which is one for all, the largest, and so it is of rebuild pressure. What a cache counted in
    the second before it was closed is missing, and what a process did in its last second before a ``kill -9``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[str, ...], Any] = {}
        self._made: dict[str, Any] = {}
        for metric in METRICS:
            for kind in ("volatile", "shared"):
                name = _name(metric, kind)
                if name not in self._made:
                    self._made[name] = _make(metric, kind, registry)
        os.register_at_fork(after_in_child=self._after_fork)

    def publish(self) -> None:
        """Threads: any."""
        with self._lock:
            self._publish(metrics.figures())

    def _publish(self, found: Iterable[CacheFigures], tell: bool = True) -> None:
        told, self._told = self._told, {}
        for figures in found:
            for metric in METRICS:
                name, labels = _name(metric, figures.kind), _labels(metric, figures)
                now = figures.lost_ages if metric.kind == "histogram" else value(metric, figures)
                before = told.pop((name, *labels), None)
                self._told[name, *labels] = now
                if tell:
                    _tell(self._made[name].labels(*labels), metric, now, before)
        for name, *left in told:  # of caches that are no more
            made = self._made[name]
            if isinstance(made, Gauge):
                made.labels(*left).set(0)

    def _after_fork(self) -> None:
        """The parent's counts are the parent's to tell, and the child's prometheus_client begins with none."""
        self._lock = threading.Lock()
        self._publish(metrics.figures(), tell=False)


_ticker = Ticker()


def _name(metric: Metric, kind: str) -> str:
    """Gauges of a shared cache have names of their own: one family is either added up over processes, or is not."""
    keeper = kind == "shared" and metric.kind == "gauge" and metric.name != "rebuild_pressure"
    return f"mvolatile_{'shared_' if keeper else ''}cache_{metric.name}"


def _labels(metric: Metric, figures: CacheFigures) -> tuple[str, ...]:
    return (figures.name, figures.kind, *(label for _, label in metric.labels))


def _names_of_labels(metric: Metric) -> tuple[str, ...]:
    return ("cache", "kind", *(name for name, _ in metric.labels))


def _make(metric: Metric, kind: str, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name, labels = _name(metric, kind), _names_of_labels(metric)
    if metric.kind == "counter":
        return Counter(name, metric.help, labels, registry=registry)
    if metric.kind == "histogram":
        return Histogram(name, metric.help, labels, buckets=AGE_BOUNDS, registry=registry)
    added_up = kind == "volatile" and metric.name != "rebuild_pressure"
    mode: Any = "livesum" if added_up else "livemax"
    return Gauge(name, metric.help, labels, registry=registry, multiprocess_mode=mode)


def _tell(made: Any, metric: Metric, now: Any, before: Any) -> None:
    if metric.kind == "gauge":
        made.set(now)
    elif metric.kind == "counter":
        grown = now - (before or 0.0)
        made.inc(now if grown < 0 else grown)
    else:
        for bound, count, earlier in zip(
            (*AGE_BOUNDS, AGE_BOUNDS[-1] * 2), now, before or (0,) * len(now), strict=True
        ):
            for _ in range(count - earlier if count >= earlier else count):
                made.observe(bound)


def _families(found: list[CacheFigures]) -> dict[str, Any]:
    families: dict[str, Any] = {}
    for metric in METRICS:
        for kind in ("volatile", "shared"):
            name = _name(metric, kind)
            if name not in families:
                families[name] = _FAMILIES[metric.kind](name, metric.help, labels=_names_of_labels(metric))
        for figures in found:
            family, labels = families[_name(metric, figures.kind)], _labels(metric, figures)
            if metric.kind == "histogram":
                family.add_metric(labels, buckets=_buckets(figures), sum_value=figures.lost_age_sum)
            else:
                family.add_metric(labels, value(metric, figures))
    return families


_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _buckets(figures: CacheFigures) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, AGE_BOUNDS), "+Inf"), figures.lost_ages, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
