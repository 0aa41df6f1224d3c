"""No wrong value, ever: several threads get, set, delete and let expire, while another thread has the kernel purge
random parts of random segments. Every value carries its key and version; a dictionary of checksums knows the latest.

Keys are shared out among the threads to write, so that each knows what the latest version of its keys is; all read
all. A reader may find any version that was current at some moment of its call, and whose time to live was not over when
it began, or a miss.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mvolatile as mv
from mvolatile import VolatileCache, testing
from mvolatile.cache.engine import engine_of

FULL = os.environ.get("MVOLATILE_STRESS") == "full"
KEYS = 3000
THREADS = 3
PURGE_EACH = 300
"""Operations of a thread. By the clock, a slow machine would lose everything before it reads anything."""


def make(key: int, version: int) -> Any:
    """A value that tells whose it is; a few are large."""
    text = b"%d:%d;" % (key, version)
    if key % 100 == 7:
        return np.resize(np.frombuffer(text, np.uint8), 70_000 + key)
    size = 20 + key * 7919 % 700
    return (text * (size // len(text) + 1))[:size] if size > len(text) else text


def checksum(value: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(value).data if isinstance(value, np.ndarray) else value)


class Truth:
    """What each key's value may be: `latest` after and `coming` during a change by its only writer."""

    def __init__(self, cache: VolatileCache[int, Any], seed: int, operations: int) -> None:
        self.cache = cache
        self.seed = seed
        self.operations = operations
        self.checksums: list[dict[int, int | None]] = [{0: None} for _ in range(KEYS)]  # by version
        self.ends: list[dict[int, float]] = [
            {} for _ in range(KEYS)
        ]  # by version: expired by then for certain
        self.version = [0] * KEYS  # the newest that may have been stored
        self.settled = [0] * KEYS  # older ones must not come back
        self.wrong: list[str] = []
        self.hits = itertools.count()
        self.due = threading.Event()  # a purge is
        self.done = False

    def write(self, rng: random.Random, key: int) -> None:
        version = self.version[key] + 1
        roll = rng.random()
        if roll < 0.2:
            self.checksums[key][version] = None
            self.version[key] = version
            self.cache.pop(key, None)
        else:
            value = make(key, version)
            self.checksums[key][version] = checksum(value)
            self.version[key] = version
            if roll < 0.3:
                ttl = rng.choice([0.0005, 0.01, 100])
                self.cache.set(key, value, ttl=ttl)
                self.ends[key][version] = time.monotonic() + ttl
            else:
                self.cache[key] = value
        self.settled[key] = version
        for old in [old for old in self.checksums[key] if old < version - 50]:
            del self.checksums[key][old]
            self.ends[key].pop(old, None)

    def read(self, key: int) -> None:
        earliest, began = self.settled[key], time.monotonic()
        value = self.cache.get(key)
        if value is None:
            return
        next(self.hits)
        found = checksum(value)
        allowed = [
            self.checksums[key].get(version)
            for version in range(earliest, self.version[key] + 1)
            if self.ends[key].get(version, math.inf) > began
        ]
        if found not in allowed:
            self.wrong.append(
                f"key {key}: {bytes(value[:30])!r} is none of versions {earliest} and later, or expired"
            )

    def worker(self, number: int) -> None:
        rng = random.Random(self.seed * 100 + number)
        for turn in range(self.operations // THREADS):
            if turn % PURGE_EACH == 0:
                self.due.set()
            if rng.random() < 0.25:
                self.write(rng, rng.randrange(KEYS // THREADS) * THREADS + number)
            else:
                self.read(min(int(rng.paretovariate(0.6)), KEYS) - 1)
            if self.wrong:
                return

    def reclaim(self) -> None:
        rng = random.Random(self.seed)
        while self.due.wait() and not self.done:
            self.due.clear()
            regions = [
                region for region in list(engine_of(self.cache).store.regions.values()) if not region.is_open
            ]
            if not regions:
                continue
            memory = rng.choice(regions).memory
            pages = -(-memory.nbytes // 4096)
            first = rng.randrange(pages)
            length = min(rng.randint(1, pages - first) * 4096, memory.nbytes - first * 4096)
            try:
                testing.purge(memory, [(first * 4096, length)])
            except BufferError:
                continue
            except ValueError:
                if not memory.closed:  # the cache has given that region up meanwhile
                    raise

    def run(self) -> None:
        reclaimer = threading.Thread(target=self.reclaim)
        workers = [threading.Thread(target=self.worker, args=(n,)) for n in range(THREADS)]
        reclaimer.start()
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        self.done = True
        self.due.set()
        reclaimer.join()
        assert not self.wrong, self.wrong[:5]


def check(operations: int, seed: int, make_cache: Callable[[], VolatileCache[int, Any]]) -> None:
    with make_cache() as cache:
        truth = Truth(cache, seed, operations)
        truth.run()
        info = cache.cache_info()
        assert next(truth.hits) > operations // 20, "the test reads something"
        assert info.purged or not mv.features().can_purge, "and loses something"


CACHES: dict[str, Callable[[], VolatileCache[int, Any]]] = {
    "unbounded": VolatileCache,
    "bounded": lambda: VolatileCache(3_000_000),
}


@pytest.mark.parametrize("name", CACHES)
def test_short(name: str) -> None:
    check(40_000, 1, CACHES[name])


def test_it_would_notice_values_that_never_expire() -> None:
    with pytest.raises(AssertionError, match="or expired"):
        check(40_000, 1, lambda: VolatileCache(timer=lambda: 0.0))


@pytest.mark.stress
@pytest.mark.skipif(not FULL, reason="MVOLATILE_STRESS=full runs 10 million operations")
@pytest.mark.timeout(7200)
def test_ten_million_operations() -> None:
    seed = int(os.environ.get("MVOLATILE_SEED", time.time_ns() % 10**6))
    print(f"MVOLATILE_SEED={seed}")
    for name in CACHES:
        check(5_000_000, seed, CACHES[name])
