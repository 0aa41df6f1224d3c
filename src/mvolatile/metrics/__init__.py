"""What the caches of this process do, in numbers for those who watch it: by name, and ready for a monitoring system.

`figures()` is a snapshot; `mvolatile.integrations.prometheus` and `mvolatile.integrations.opentelemetry` hand it on;
`publish()` leaves it where ``mvolatile top`` sees it. Nothing of this runs unless it is asked for.

The map::

    snapshot.py  a snapshot of every cache, by name     names.py       the metrics: name, kind, unit, help
    ticker.py    one thread that calls every second     published.py   figures in a file, for others of this user
"""

from __future__ import annotations

from .names import KEEPERS, METRICS, Metric, value
from .published import publish, published
from .snapshot import BOUNDS as AGE_BOUNDS
from .snapshot import CacheFigures, figures
from .ticker import Ticker

__all__ = [
    "AGE_BOUNDS",
    "KEEPERS",
    "METRICS",
    "CacheFigures",
    "Metric",
    "Ticker",
    "figures",
    "publish",
    "published",
    "value",
]
