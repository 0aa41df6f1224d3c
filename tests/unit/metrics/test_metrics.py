"""Figures by name."""

from __future__ import annotations

import json
import threading

import mvolatile as mv
from mvolatile.metrics import METRICS, CacheFigures, figures, value


def of(name: str) -> CacheFigures:
    (found,) = (one for one in figures() if one.name == name)
    return found


def test_caches_of_one_name_are_one() -> None:
    with (
        mv.VolatileCache[int, bytes](name="twins") as one,
        mv.VolatileCache[int, bytes](name="twins") as other,
    ):
        one[1] = b"x" * 10
        other[1] = b"y" * 20
        assert other[1]
        assert one.get(2) is None
        told = of("twins")
        assert (told.hits, told.stores, told.entries, told.bytes) == (1, 2, 2, 30)
        assert told.misses == one.cache_info().misses + other.cache_info().misses
    assert not [told for told in figures() if told.name == "twins"], "closed ones are none"


def test_counts_go_on_where_a_cache_is_cleared() -> None:
    """A counter that falls is taken for one that began anew, and what it had not told yet is lost."""
    with mv.VolatileCache[int, bytes](name="cleared", maxsize=2) as cache:
        for key in range(3):
            cache.get_or_set(key, lambda: b"x")
        assert cache[2] == b"x"
        before = of("cleared")
        assert (before.hits, before.misses, before.stores, before.evicted) == (1, 3, 3, 1)
        cache.clear()
        assert cache.cache_info()[:2] == (0, 0)
        now = of("cleared")
        assert (now.hits, now.misses, now.stores, now.evicted, now.entries) == (1, 3, 3, 1, 0)
        assert now.saved_seconds == before.saved_seconds > 0
        assert now.spent_seconds == before.spent_seconds > 0
        cache[3] = b"y"
        cache.clear()
        cache[4] = b"z"
        assert of("cleared").stores == 5


def test_counts_never_fall_beside_a_thread_that_clears() -> None:
    with mv.VolatileCache[int, bytes](name="watched") as cache:
        over = threading.Event()

        def clear() -> None:
            for key in range(300):
                cache[key] = b"x"
                cache.clear()
            over.set()

        thread = threading.Thread(target=clear)
        thread.start()
        told = [0]
        while not over.is_set():
            told.append(of("watched").stores)
        thread.join()
        assert told == sorted(told)
        assert of("watched").stores == 300


def test_every_metric_has_its_figure() -> None:
    told = CacheFigures("a", "volatile")
    for metric in METRICS:
        if metric.kind == "histogram":
            assert isinstance(getattr(told, metric.field), tuple)
        else:
            assert value(metric, told) == 0
    json.dumps(told.as_dict())
