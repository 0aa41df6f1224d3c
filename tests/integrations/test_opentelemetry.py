"""The caches among OpenTelemetry's metrics, with the real SDK."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="make integrations installs it")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mvolatile import VolatileCache
from mvolatile.integrations.opentelemetry import instrument


def collected(reader: InMemoryMetricReader, cache: str) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """By name: what is told of a cache, without its own attributes."""
    data: Any = reader.get_metrics_data()
    own = {"mvolatile.cache.name": cache, "mvolatile.cache.kind": "volatile"}
    metrics = [
        metric
        for resource in (() if data is None else data.resource_metrics)
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    return {
        metric.name: [
            ({key: value for key, value in point.attributes.items() if key not in own}, point.value)
            for point in metric.data.data_points
            if own.items() <= dict(point.attributes).items()
        ]
        for metric in metrics
    }


def units_of(reader: InMemoryMetricReader) -> dict[str, str]:
    data: Any = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: metric.unit for scope in scopes for metric in scope.metrics}


def test_what_is_collected_is_what_the_caches_count() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider)
    with VolatileCache[int, bytes](name="observed", maxsize=2) as cache:
        for key in (1, 2, 3):
            cache.get_or_set(key, lambda: b"x" * 10)
        assert cache[3]
        told = collected(reader, "observed")
        result, reason, window = (f"mvolatile.cache.{what}" for what in ("result", "reason", "window"))
        assert told["mvolatile.cache.requests"] == [({result: "hit"}, 1), ({result: "miss"}, 3)]
        assert told["mvolatile.cache.stores"] == [({}, 3)]
        assert ({reason: "evicted"}, 1) in told["mvolatile.cache.departures"]
        assert told["mvolatile.cache.entries"] == [({}, 2)]
        assert told["mvolatile.cache.size"] == [({}, cache.cache_info().bytes)]
        assert [labels[window] for labels, _ in told["mvolatile.cache.rebuild.pressure"]] == [
            "10s",
            "60s",
            "300s",
        ]
        assert len(told["mvolatile.cache.lost.age"]) == 8
        assert {
            name: units_of(reader)[f"mvolatile.cache.{name}"] for name in ("lost.age", "size", "saved.time")
        } == {
            "lost.age": "{entry}",
            "size": "By",
            "saved.time": "s",
        }
    assert not collected(reader, "observed").get("mvolatile.cache.stores")
    provider.shutdown()
