"""The single steps of a cache that cache_speed.py measures: calls, objects, and small hits and sets beside another
checkout's.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import mvolatile as mv

VALUE = b"x" * 100


def best(action: Callable[[], object], loops: int, rounds: int = 15) -> float:
    """Seconds for one."""
    found = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(loops):
            action()
        found = min(found, (time.perf_counter() - start) / loops)
    return found


def in_turns(ways: Mapping[str, Callable[[], object]], loops: int, rounds: int = 200) -> dict[str, float]:
    """Seconds for one of each. Where others work too, some of many short rounds are undisturbed."""
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, action in ways.items():
            found[name] = min(found[name], best(action, loops, 1))
    return found


SMALL_STEPS = """
import time
import mvolatile as mv
keys = [f"key:{number}" for number in range(1000)]
with mv.VolatileCache() as cache:
    def get():
        for key in keys:
            cache[key]
    def put():
        global last
        for key in range(last, last + 1000):
            cache[key] = value
        last += 1000
    value, last = b"x" * 100, 0
    for key in keys:
        cache[key] = value
    for action in (get, put):
        least = 1.0
        for _ in range(200):
            start = time.perf_counter()
            action()
            least = min(least, time.perf_counter() - start)
        print(least / len(keys))
"""


def small_steps(python: str) -> list[float]:
    """Seconds of a hit and of a set of 100 bytes, in a process of its own."""
    done = subprocess.run([python, "-c", SMALL_STEPS], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def beside(before: str | None, turns: int = 5) -> dict[str, list[float]]:
    """The least of some turns: ours, and those of another checkout's interpreter."""
    found = {"now": [small_steps(sys.executable) for _ in range(1 if before else turns)]}
    if before:
        found["before"] = []
        for _ in range(turns):
            found["before"].append(small_steps(before))
            found["now"].append(small_steps(sys.executable))
    return {name: [min(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}


def objects() -> dict[str, float]:
    """A hit of an object that is pickled, of a few hundred bytes."""
    value = {"id": 5, "name": "Somebody", "tags": ["x", "y", "z"], "when": (2026, 1, 2), "text": "x" * 200}
    data = pickle.dumps(value, 5)
    with mv.VolatileCache() as cache:
        cache["k"] = value
        ways = {"hit": lambda: cache["k"], "loads": lambda: pickle.loads(data)}
        return {**in_turns(ways, 500), "bytes": len(data)}


def calls() -> dict[str, float]:
    """Seconds for a hit of 100 bytes through a decorator."""
    import cachetools

    class Object:
        @mv.volatile_cache
        def ours(self, n: int) -> bytes:
            return VALUE

        @lru_cache(None)  # noqa: B019
        def theirs(self, n: int) -> bytes:
            return VALUE

    def function(n: int) -> bytes:
        return VALUE

    ours, theirs = mv.volatile_cache(function), lru_cache(None)(function)
    lru: Any = cachetools.LRUCache(1 << 20)
    locked = cachetools.cached(lru, lock=threading.Lock())(function)
    it = Object()
    ways: dict[str, Callable[[], object]] = {
        "volatile_cache": lambda: ours(5),
        "volatile_cache, a keyword": lambda: ours(n=5),
        "volatile_cache, a method": lambda: it.ours(5),
        "lru_cache": lambda: theirs(5),
        "lru_cache, a keyword": lambda: theirs(n=5),
        "lru_cache, a method": lambda: it.theirs(5),
        "cachetools.cached, lock": lambda: locked(5),
    }
    return in_turns(ways, 1000)
