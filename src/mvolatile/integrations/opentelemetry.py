"""The caches of a program among its OpenTelemetry metrics; needs ``pip install mvolatile[opentelemetry]``.

>>> from mvolatile.integrations.opentelemetry import instrument
>>> instrument()

The instruments are observable: the caches are asked when the SDK collects, and cost nothing else. Names follow .NET's
``dotnet.cache.*`` and the semantic conventions' style, with the attributes ``mvolatile.cache.name`` and
``mvolatile.cache.kind``. Each process reports for itself, as OpenTelemetry has it; what a shared cache's keeper has is
told by all its clients, and not to be added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter

from .. import metrics
from ..metrics import AGE_BOUNDS, METRICS, CacheFigures, Metric, value

__all__ = ["instrument"]

PREFIX = "mvolatile.cache."


def instrument(provider: MeterProvider | None = None) -> None:
    """Make the instruments, with the program's provider or another. Once in a process; a forked child has them, too."""
    meter = get_meter("mvolatile", meter_provider=provider)
    for name in dict.fromkeys(metric.name for metric in METRICS):
        same = [metric for metric in METRICS if metric.name == name]
        if same[0].kind == "histogram":  # there is no observable histogram: a count for each class
            callback: Callable[[CallbackOptions], Iterable[Observation]] = _ages
            unit = "{entry}"
        else:
            callback, unit = partial(_observe, same), same[0].unit
        _maker(meter, same[0])(PREFIX + _dotted(name), [callback], unit, same[0].help)


def _maker(meter: Meter, metric: Metric) -> Any:
    return meter.create_observable_gauge if metric.kind == "gauge" else meter.create_observable_counter


def _dotted(name: str) -> str:
    """``rebuild_seconds`` is ``rebuild.time``: units are no part of names there."""
    return {
        "saved_seconds": "saved.time",
        "spent_seconds": "spent.time",
        "lost_seconds": "lost.time",
        "rebuild_seconds": "rebuild.time",
        "bytes": "size",
        "resident_bytes": "resident.size",
        "pinned_bytes": "pinned.size",
        "rebuild_pressure": "rebuild.pressure",
        "lost_age_seconds": "lost.age",
    }.get(name, name)


def _observe(same: list[Metric], _: CallbackOptions) -> Iterable[Observation]:
    for figures in metrics.figures():
        for metric in same:
            labels = {f"mvolatile.cache.{label}": told for label, told in metric.labels}
            yield Observation(value(metric, figures), {**_attributes(figures), **labels})


def _ages(_: CallbackOptions) -> Iterable[Observation]:
    for figures in metrics.figures():
        for bound, count in zip((*AGE_BOUNDS, float("inf")), figures.lost_ages, strict=True):
            yield Observation(count, {**_attributes(figures), "mvolatile.cache.age.at_most": bound})


def _attributes(figures: CacheFigures) -> dict[str, Any]:
    return {"mvolatile.cache.name": figures.name, "mvolatile.cache.kind": figures.kind}
