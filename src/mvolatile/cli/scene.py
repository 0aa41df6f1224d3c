"""What ``mvolatile top`` shows: one look at the container, processes, caches and keepers; and how it went lately."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from ..kernel.cgroup import memory_cgroup, memory_state
from ..kernel.psi import read_psi
from ..metrics import published
from ..shared.survey import keepers
from .processes import command_of, usages

__all__ = ["History", "key_of", "look"]

KEPT = 30
"""Looks that a sparkline shows."""


def look() -> dict[str, Any]:
    """As JSON has it: sizes in bytes, shares from 0 to 1; PSI in percent, as the kernel tells it."""
    return {
        "time": time.time(),
        "container": _container(),
        "processes": [_process(pid, held) for pid, held in usages().items()],
        "caches": [
            {"pid": process["pid"], "told": process["time"], **figures}
            for process in published()
            for figures in process["figures"]
        ],
        "keepers": keepers(),
    }


def _container() -> dict[str, Any]:
    cgroup = memory_cgroup()
    state = None if cgroup is None else memory_state(cgroup)
    psi = read_psi()
    return {
        "limit": None if state is None else state.limit,
        "usage": None if state is None else state.usage,
        "oom_kills": None if state is None else state.oom_kills,
        "psi_some_avg10": None if psi is None else psi.some.avg10,
        "psi_full_avg10": None if psi is None or psi.full is None else psi.full.avg10,
    }


def _process(pid: int, held: list[Any]) -> dict[str, Any]:
    return {
        "pid": pid,
        "command": command_of(pid),
        "size": sum(usage.size for usage in held),
        "resident": sum(usage.resident for usage in held),
        "lazy_free": sum(usage.lazy_free for usage in held),
    }


class History:
    """Of each cache: how it went between looks."""

    def __init__(self) -> None:
        self._before: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.hit_rates: dict[tuple[Any, ...], deque[float]] = {}
        self.pressures: dict[tuple[Any, ...], deque[float]] = {}
        self.lost: dict[tuple[Any, ...], float] = {}
        """Values a second that the kernel took since the last look."""
        self._time = 0.0

    def add(self, seen: dict[str, Any]) -> None:
        """One more look. A cache that is no more is forgotten."""
        now = {key_of(cache): cache for cache in seen["caches"]}
        kept: tuple[dict[tuple[Any, ...], Any], ...] = (self.hit_rates, self.pressures, self.lost)
        for by_key in kept:
            for gone in by_key.keys() - now.keys():
                del by_key[gone]
        passed = max(1e-3, seen["time"] - self._time)
        for key, cache in now.items():
            before = self._before.get(key, {"hits": 0, "misses": 0, "lost": cache["lost"]})
            hits, misses, lost = (max(0, cache[what] - before[what]) for what in ("hits", "misses", "lost"))
            if hits + misses or key not in self.hit_rates:
                rate = hits / (hits + misses) if hits + misses else 0.0
                self.hit_rates.setdefault(key, deque(maxlen=KEPT)).append(rate)
            self.pressures.setdefault(key, deque(maxlen=KEPT)).append(cache["rebuild"]["avg10"])
            self.lost[key] = lost / passed
        self._before, self._time = now, seen["time"]


def key_of(cache: dict[str, Any]) -> tuple[Any, ...]:
    """Which cache of which process."""
    return cache["pid"], cache["name"], cache["kind"]
