"""add, touch, incr, get_many, set_many: what the backend of a framework needs, each in one step."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from mvolatile import TooLargeError

from .conftest import Factory
from .helpers import LARGE, later, purge


@pytest.mark.parametrize("size", [10, LARGE])
def test_add(cache_factory: Factory, size: int) -> None:
    cache = cache_factory()
    assert cache.add("k", b"1" * size, ttl=0.02)
    assert not cache.add("k", b"2" * size) or cache["k"] == b"2" * size
    later(0.03)
    cache.pop("k", None)
    assert cache.add("k", b"3" * size)
    assert not cache.add("k", b"4" * size)
    assert cache["k"] == b"3" * size
    del cache["k"]
    assert cache.add("k", b"5" * size)


def test_add_of_what_is_over_at_once(cache_factory: Factory) -> None:
    cache = cache_factory()
    assert cache.add("k", 1, ttl=0)
    assert cache.add("k", 1, ttl=0)
    assert "k" not in cache
    cache["k"] = 2
    assert not cache.add("k", 3, ttl=0)
    assert cache["k"] == 2
    assert cache_factory(ttl=0).incr("n", default=0) == 1


def test_add_where_the_value_was_taken(cache: Any) -> None:
    assert cache.add("k", b"1" * LARGE)
    purge(cache)
    assert cache.add("k", b"2" * LARGE)
    assert cache["k"] == b"2" * LARGE
    purge(cache)
    assert not cache.touch("k")
    assert cache.ttl("k") is None
    with pytest.raises(KeyError):
        cache.incr("k")


def test_too_large(cache_factory: Factory) -> None:
    cache = cache_factory(max_bytes=1000)
    cache["k"] = b"old"
    for store in (cache.set, cache.add, lambda key, value: cache.set_many({key: value})):
        cache.pop("l", None)
        with pytest.raises(TooLargeError):
            store("l", bytes(1001))
        assert "l" not in cache
    with pytest.raises(TooLargeError):
        cache["k"] = bytes(1001)
    assert "k" not in cache, "the older value is gone, too"
    assert cache.get_or_set("k", lambda: bytes(1001)) == bytes(1001)
    assert "k" not in cache


def test_a_bound(cache_factory: Factory) -> None:
    cache = cache_factory(max_bytes=100_000)
    for i in range(50):
        cache[i] = bytes(10_000)
        assert cache.cache_info().bytes <= 100_000
    assert 3 <= len(cache) <= 10
    cache.resize(20_000)
    assert cache.cache_info().bytes <= 20_000
    cache.resize(None)
    cache["large"] = bytes(200_000)
    assert cache["large"] == bytes(200_000)


@pytest.mark.parametrize("size", [10, LARGE])
def test_one_of_many_threads_adds(cache: Any, size: int) -> None:
    for step in range(5):
        barrier = threading.Barrier(4)
        won: list[int] = []

        def try_to(n: int, step: int = step, barrier: Any = barrier, won: Any = won) -> None:
            barrier.wait()
            if cache.add(step, b"%d" % n * size):
                won.append(n)

        run_all([threading.Thread(target=try_to, args=(n,)) for n in range(4)])
        assert len(won) == 1
        assert cache[step] == b"%d" % won[0] * size


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_of_many_threads_pops(cache: Any) -> None:
    for step in range(5):
        cache["k"] = step
        barrier = threading.Barrier(4)
        got: list[Any] = []

        def pop(barrier: Any = barrier, got: Any = got) -> None:
            barrier.wait()
            got.append(cache.pop("k", None))

        run_all([threading.Thread(target=pop) for _ in range(4)])
        assert sorted(got, key=str) == sorted([step, None, None, None], key=str)


def test_what_is_being_made_while_it_is_added_is_not_stored(cache: Any) -> None:
    def make() -> str:
        assert cache.add("k", "added")
        return "made"

    assert cache.get_or_set("k", make) == "made"
    assert cache["k"] == "added"


def test_incr_and_decr(cache_factory: Factory) -> None:
    cache = cache_factory(ttl=1000)
    cache.set("n", 5, ttl=100)
    assert cache.incr("n") == 6
    assert cache.incr("n", 10) == 16
    assert cache.decr("n", 20) == -4
    assert cache.incr("n", 0.5) == -3.5
    assert cache.incr("n", 10**30) == 10**30 - 3.5
    assert cache.ttl("n") <= 100, "it lives no longer for that"
    for verb in (cache.incr, cache.decr):
        with pytest.raises(KeyError, match="m"):
            verb("m")
    assert cache.incr("m", 2, default=100) == 102
    assert cache.incr("m", 2, default=100) == 104
    assert cache.decr("l", 2, default=100) == 98
    assert 900 < cache.ttl("m") <= 1000
    cache["text"] = "text"
    with pytest.raises(TypeError):
        cache.incr("text")
    assert cache["text"] == "text"
    cache.set("for ever", 1, ttl=math.inf)
    assert cache.incr("for ever") == 2
    assert cache.ttl("for ever") == math.inf
    cache.set("n", 1, ttl=0.02)
    later(0.03)
    with pytest.raises(KeyError, match="n"):
        cache.incr("n")


def test_no_increment_is_lost(cache: Any) -> None:
    def count() -> None:
        for _ in range(100):
            cache.incr("n", default=0)

    run_all([threading.Thread(target=count) for _ in range(4)])
    assert cache["n"] == 400


def test_many_at_once(cache_factory: Factory) -> None:
    cache = cache_factory()
    cache.set_many({"a": 1, "b": 2}, ttl=1000)
    cache.set_many([("c", 3)])
    cache.set_many(iter([("d", 4)]))
    assert cache.get_many(["a", "c", "x"]) == {"a": 1, "c": 3}
    assert list(cache.get_many("cab")) == ["c", "a", "b"]
    assert cache.ttl("b") <= 1000
    assert cache.delete_many("abx") == 2
    other = cache_factory()
    other.set_many({"o": 1})
    cache.set_many(other)
    assert cache["o"] == 1
