"""add, touch, ttl, incr, get_many, set_many: what the backend of a framework needs, each in one step."""

from __future__ import annotations

import math
import threading
from typing import Any, cast

import pytest

from mvolatile import TooLargeError, VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, purge

LARGE = 100_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_touch(clock: Clock, size: int) -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(ttl=10, timer=clock)
    value = b"v" * size
    cache["k"] = value
    assert cache.ttl("k") == 10
    clock.now += 9
    assert cache.ttl("k") == 1
    assert cache.touch("k"), "the cache's own again"
    assert cache.ttl("k") == 10
    assert cache.touch("k", 100)
    clock.now += 99
    assert cache["k"] == value
    assert cache.touch("k", math.inf)
    clock.now += 1e9
    assert cache["k"] == value
    assert cache.ttl("k") == math.inf
    assert cache.touch("k", 1)
    clock.now += 1
    assert not cache.touch("k", 1)
    assert cache.ttl("k") is None
    assert "k" not in cache
    cache["k"] = value
    assert cache.touch("k", 0)
    assert "k" not in cache
    assert not cache.touch("never there")
    with pytest.raises(ValueError, match="ttl must not be negative"):
        cache.touch("k", -1)
    cache["k"] = value
    purge(cache)
    assert not cache.touch("k")
    assert cache.ttl("k") is None
    is_valid(cache)


def test_a_value_of_a_cache_without_ttl_can_get_one(clock: Clock) -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache(timer=clock)
    for key, value in (("empty", b""), ("small", b"v"), ("large", b"v" * LARGE)):
        cache[key] = value
        assert cache.ttl(key) == math.inf
        assert cache.touch(key)
        assert cache.ttl(key) == math.inf
        assert cache.touch(key, 5)
        assert cache[key] == value
    clock.now += 5
    for n in range(100):
        cache[n] = b"x"
    assert len(cache) == 100, "swept, though nobody asked"


def test_to_touch_again_and_again_stays_within_the_bounds(clock: Clock) -> None:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes=20_000, maxsize=100, timer=clock)
    for step in range(5000):
        if not cache.touch(step % 50, 10):
            cache[step % 50] = b"%d" % (step % 50) * 20
        assert engine_of(cache).store.nbytes <= 20_000
    assert all(value == b"%d" % key * 20 for key, value in cache.items())
    assert len(cache) >= 49
    is_valid(cache)


@pytest.mark.parametrize("size", [10, LARGE])
def test_add(clock: Clock, size: int) -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(timer=clock)
    assert cache.add("k", b"1" * size, ttl=5)
    assert not cache.add("k", b"2" * size)
    assert cache["k"] == b"1" * size
    clock.now += 5
    assert cache.add("k", b"3" * size)
    purge(cache)
    assert cache.add("k", b"4" * size)
    assert cache["k"] == b"4" * size
    del cache["k"]
    assert cache.add("k", b"5" * size)
    bounded: VolatileCache[str, bytes] = VolatileCache(max_bytes=100)
    with pytest.raises(TooLargeError):
        bounded.add("k", bytes(101))
    cache.close()
    with pytest.raises(ValueError, match="nothing can be stored"):
        cache.add("k", b"6")


def test_incr_and_decr(clock: Clock) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(ttl=10, timer=clock)
    cache["n"] = 5
    clock.now += 3
    assert cache.incr("n") == 6
    assert cache.incr("n", 10) == 16
    assert cache.decr("n", 20) == -4
    assert cache.incr("n", 0.5) == -3.5
    assert cache.ttl("n") == 7, "it lives no longer for that"
    with pytest.raises(KeyError, match="m"):
        cache.incr("m")
    with pytest.raises(KeyError, match="m"):
        cache.decr("m")
    assert cache.incr("m", 2, default=100) == 102
    assert cache.incr("m", 2, default=100) == 104
    cache["text"] = "text"
    with pytest.raises(TypeError):
        cache.incr("text")
    assert cache["text"] == "text"
    clock.now += 7
    with pytest.raises(KeyError, match="n"):
        cache.incr("n")
    cache.set("for ever", 1, ttl=math.inf)
    assert cache.incr("for ever") == 2
    assert cache.ttl("for ever") == math.inf


def test_no_increment_is_lost() -> None:
    cache: VolatileCache[str, int] = VolatileCache()
    stop = threading.Event()

    def count() -> None:
        for _ in range(500):
            cache.incr("n", default=0)

    def move_all() -> None:  # in one change: what another thread has opened meanwhile is not for moving
        engine_of(cache).store.seal_all()
        for region in list(engine_of(cache).store.regions.values()):
            engine_of(cache).store.compact(cast(Any, region))
        engine_of(cache).reclaimer.finish()

    def move() -> None:
        while not stop.is_set():
            engine_of(cache).change(move_all)

    threads = [threading.Thread(target=count) for _ in range(3)]
    mover = threading.Thread(target=move)
    for thread in [*threads, mover]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    mover.join()
    assert cache["n"] == 1500


def test_many_at_once(clock: Clock) -> None:
    cache: VolatileCache[str, int] = VolatileCache(timer=clock)
    cache.set_many({"a": 1, "b": 2}, ttl=5)
    cache.set_many([("c", 3)])
    assert cache.get_many(["a", "c", "x"]) == {"a": 1, "c": 3}
    assert engine_of(cache).lookup.counts() == (2, 1)
    clock.now += 5
    assert cache.get_many(iter("abc")) == {"c": 3}
    assert cache.delete_many("abc") == 1
    other: VolatileCache[str, int] = VolatileCache()
    other.set_many({"o": 1})
    cache.set_many(other)
    assert cache["o"] == 1


def test_for_ever_where_the_cache_has_a_ttl(clock: Clock) -> None:
    cache: VolatileCache[str, int] = VolatileCache(ttl=1, timer=clock)
    cache.set("k", 1, ttl=math.inf)
    cache.set_many({"l": 2}, ttl=math.inf)
    assert cache.get_or_set("m", lambda: 3, ttl=math.inf) == 3
    clock.now += 1e12
    assert cache.get_many("klm") == {"k": 1, "l": 2, "m": 3}


def test_a_clock_that_goes_backward(clock: Clock) -> None:
    """A value lives longer then, and is never wrong; what was found to be over is gone."""
    cache: VolatileCache[str, bytes] = VolatileCache(ttl=10, timer=clock)
    cache["k"], cache["l"] = b"k", b"l" * LARGE
    clock.now -= 50
    assert cache.get_many("kl") == {"k": b"k", "l": b"l" * LARGE}
    assert cache.ttl("k") == cache.ttl("l") == 60
    clock.now += 61
    assert cache.get_many("kl") == {}
    clock.now -= 50
    assert cache.get_many("kl") == {}
    assert len(cache) == 0
