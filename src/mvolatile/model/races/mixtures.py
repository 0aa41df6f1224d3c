"""Larger mixtures, in which nothing in particular is suspected; without swap, to keep them searchable."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..fork import fork
from ..litmus import (
    CHILD_STORE,
    STORE,
    Litmus,
    mark,
    pages,
    reclaimer,
    shared_volatile,
    unmark,
    volatile_pages,
)
from ..state import Config, Kernel
from ..steps import Steps
from ..user import load, store


def _parent_unmarks_and_loads(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from load(k, 0, 0)
    return ret, value


def _mark_unmark(k: Kernel) -> Steps[tuple[Any, Any, Any]]:
    yield from mark(k, 0)
    first = yield from unmark(k, 0)
    value = yield from store(k, 0, 0, 5)
    return first, value, 0


def _fork_then_load(k: Kernel) -> Steps[int | str]:
    yield from fork(k, 0, 1)
    return (yield from load(k, 1, 0))


RACES = (
    Litmus(
        "parent_and_child_and_kswapd",
        "no_wrong_data",
        "the parent unmarks and reads, the child writes, kswapd scans",
        shared_volatile,
        {"cpu0": _parent_unmarks_and_loads, "cpu1": CHILD_STORE, "kswapd": reclaimer},
        Config(frames=4, slots=0),
    ),
    Litmus(
        "two_threads_and_kswapd",
        "no_wrong_data",
        "one thread marks, unmarks and refills, another stores, kswapd scans",
        pages,
        {"cpu0": _mark_unmark, "cpu1": STORE, "kswapd": reclaimer},
        Config(slots=0),
    ),
    Litmus(
        "fork_and_touch_against_purge",
        "no_wrong_data",
        "one thread forks and the child reads, another writes to the volatile page, kswapd scans twice",
        volatile_pages,
        {"cpu0": _fork_then_load, "cpu1": STORE, "kswapd": partial(reclaimer, scans=2)},
        Config(frames=4),
    ),
)
