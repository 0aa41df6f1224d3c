"""`caches()`: every open cache of the process, to clear them all between tests or on request."""

from __future__ import annotations

import gc
import threading

import mvolatile as mv

from .helpers import in_child


def test_all_caches_can_be_cleared() -> None:
    cache: mv.VolatileCache[str, int] = mv.VolatileCache(name="mine")

    @mv.volatile_cache
    def double(n: int) -> int:
        return 2 * n

    cache["k"], _ = 1, double(4)
    found = mv.caches()
    assert cache in found
    assert double.cache in found
    assert len(found) == len({id(each) for each in found})
    for each in found:
        each.clear()
    assert len(cache) == 0
    assert double.cache_info().currsize == 0


def test_those_that_are_closed_or_gone_are_not_among_them() -> None:
    cache: mv.VolatileCache[str, int] = mv.VolatileCache(name="gone")
    assert not cache.closed
    cache.close()
    assert cache.closed
    assert cache not in mv.caches()
    mv.VolatileCache(name="gone")
    gc.collect()
    assert not [each for each in mv.caches() if each.name == "gone"]


def test_they_are_listed_while_others_come_and_go() -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            mv.VolatileCache(name="passing")

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    kept = mv.VolatileCache[str, int](name="kept")
    try:
        for _ in range(2000):
            assert kept in mv.caches()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_has_them_too() -> None:
    cache: mv.VolatileCache[str, int] = mv.VolatileCache()

    def child() -> None:
        assert cache in mv.caches()

    in_child(child)
