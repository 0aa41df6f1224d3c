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
from ..metrics import AGE_BOUNDS, CacheFigures, Ticker
from .multiprocess import gauges_before, want_room
from .series import ALL, Ages, Series, buckets, samples

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

    Errors of `publish`: `OSError` where there is no descriptor, or no room on the disk. What was not told is told next.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._lock = threading.Lock()
        self._told: dict[tuple[Series, tuple[str, ...]], Any] = {}
        self._made = {series.name: _make(series, registry) for series in ALL}
        self._files_of = 0
        os.register_at_fork(after_in_child=self._after_fork)

    def publish(self) -> None:
        """Threads: any."""
        with self._lock:
            found = [sample for figures in metrics.figures() for sample in samples(figures)]
            if self._directory and (
                self._files_of != os.getpid() or any(sample[:2] not in self._told for sample in found)
            ):
                want_room(self._directory)
                self._begin(self._directory, os.getpid())
            self._publish(found)

    def _begin(self, directory: str, pid: int) -> None:
        if self._files_of != pid:
            for name, labels in list(gauges_before(directory, pid)):
                if name in self._made:
                    self._made[name].labels(**labels).set(0)
            self._files_of = pid

    def _publish(self, found: Iterable[tuple[Series, tuple[str, ...], Any]]) -> None:
        left = dict(self._told)
        for series, labels, now in found:
            _tell(self._made[series.name].labels(*labels), now, self._told.get((series, labels)))
            self._told[series, labels] = now  # not before: what could not be told is told next time
            left.pop((series, labels), None)
        for series, labels in left:  # of caches that are no more
            if series.kind == "gauge":
                self._made[series.name].labels(*labels).set(0)
            del self._told[series, labels]

    def _after_fork(self) -> None:
        """The parent's counts are the parent's to tell, and the child's prometheus_client begins with none."""
        self._lock = threading.Lock()
        self._told = {
            (series, labels): now for figures in metrics.figures() for series, labels, now in samples(figures)
        }


_ticker = Ticker()


class _Histogram(Histogram):
    """To which more than one value can be added at once: a purge takes thousands."""

    def add(self, ages: Ages) -> None:
        """So many of each class more."""
        self._sum.inc(ages.sum)
        for bucket, count in zip(self._buckets, ages.counts, strict=True):
            if count:
                bucket.inc(count)


def _make(series: Series, registry: CollectorRegistry) -> Any:
    names: dict[str, Any] = {"labelnames": series.labels, "unit": series.unit, "registry": registry}
    if series.kind == "counter":
        return Counter(series.name, series.help, **names)
    if series.kind == "histogram":
        return _Histogram(series.name, series.help, buckets=AGE_BOUNDS, **names)
    mode: Any = "livesum" if series.added_up else "livemax"
    return Gauge(series.name, series.help, multiprocess_mode=mode, **names)


def _tell(made: Any, now: Any, before: Any) -> None:
    if isinstance(made, Gauge):
        made.set(now)
    elif isinstance(made, Counter):
        made.inc(now if before is None or now < before else now - before)
    else:
        made.add(_grown(now, before))


def _grown(now: Ages, before: Ages | None) -> Ages:
    """Since then; a cache of that name may have been closed, and begun anew."""
    if before is None or now.sum < before.sum or any(map(int.__lt__, now.counts, before.counts)):
        return now
    return Ages(tuple(map(int.__sub__, now.counts, before.counts)), now.sum - before.sum)


def _families(found: list[CacheFigures]) -> dict[str, Any]:
    families = {
        series.name: _FAMILIES[series.kind](series.name, series.help, labels=series.labels, unit=series.unit)
        for series in ALL
    }
    for figures in found:
        for series, labels, now in samples(figures):
            if isinstance(now, Ages):
                families[series.name].add_metric(labels, buckets=list(buckets(now.counts)), sum_value=now.sum)
            else:
                families[series.name].add_metric(labels, now)
    return families


_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
