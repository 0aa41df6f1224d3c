"""Losses while others read."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any, cast

import pytest

import mvolatile as mv
from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid

pytestmark = pytest.mark.skipif(mv.features().can_purge is False, reason="nothing is purged in this tier")


def test_hits_without_a_lock_while_segments_are_sealed_moved_and_lost() -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=1 << 20)
    stop = threading.Event()
    wrong: list[Any] = []
    hits = [0]

    def reader(seed: int) -> None:
        i = seed
        while not stop.is_set():
            i = (i * 1103515245 + 12345) % 8000
            value = cache.get(i)
            if value is not None:
                hits[0] += 1
                if not value.startswith(b"%d:" % i) or len(value) != 200:
                    wrong.append((i, value[:20]))

    threads = [threading.Thread(target=reader, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for step in count():
        key = step * 31 % 8000
        cache[key] = (b"%d:%d" % (key, step)).ljust(200)
        if step % 500 == 0:
            purge_oldest(cache)
        if step >= 30_000 and hits[0]:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    is_valid(cache)


def purge_oldest(cache: VolatileCache[Any, Any]) -> None:
    region = next((region for region in engine_of(cache).policy.order() if not region.is_open), None)
    if region is not None:
        try:
            cast(Any, region).memory.purge()
        except BufferError:
            return
