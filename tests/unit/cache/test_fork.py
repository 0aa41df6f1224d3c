"""After a fork both sides have a working cache, whatever other threads were doing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import in_child, is_valid, purge, seal


@pytest.fixture
def cache() -> Iterator[VolatileCache[Any, Any]]:
    cache: VolatileCache[Any, Any] = VolatileCache()
    for i in range(3000):
        cache[i] = b"%d." % i * 20
    cache["large"] = np.arange(200_000)
    yield cache
    cache.close()


def right(cache: VolatileCache[Any, Any]) -> None:
    for i in range(3000):
        assert cache.get(i) in (b"%d." % i * 20, None)


@pytest.mark.parametrize("sealed", [False, True])
def test_both_sides_go_on_independently(cache: VolatileCache[Any, Any], sealed: bool) -> None:
    if sealed:
        seal(cache)

    def child() -> None:
        assert sum(i in cache for i in range(3000)) == 3000
        right(cache)
        assert cache["large"][-1] == 199_999
        for i in range(3000, 6000):
            cache[i] = b"child"
        del cache[0]
        purge(cache)
        right(cache)
        cache["again"] = 1
        assert cache["again"] == 1
        is_valid(cache)

    in_child(child)
    assert len(cache) == 3001
    right(cache)
    cache[3000] = b"parent"
    assert cache[3000] == b"parent"
    assert cache["large"].sum() == np.arange(200_000).sum()
    is_valid(cache)


def test_losses_in_the_parent_are_the_parents(cache: VolatileCache[Any, Any]) -> None:
    ready, go = os.pipe()

    def child() -> None:
        right(cache)
        for i in range(100):
            cache[i] = b"%d." % i * 20
        right(cache)
        is_valid(cache)

    purge(cache)
    in_child(child)
    right(cache)
    is_valid(cache)
    os.close(ready)
    os.close(go)


def test_while_another_thread_is_in_the_middle_of_a_change(cache: VolatileCache[Any, Any]) -> None:
    inside, leave = threading.Event(), threading.Event()

    class Slow:
        def __hash__(self) -> int:
            return 987654321

        def __eq__(self, other: object) -> bool:
            inside.set()
            leave.wait()
            return self is other

    cache[Slow()] = 1
    other = threading.Thread(target=lambda: cache.set(Slow(), 2))
    other.start()
    inside.wait()
    assert engine_of(cache).change.torn

    def child() -> None:
        leave.set()
        right(cache)
        cache["child"] = 1
        assert cache["child"] == 1
        is_valid(cache)

    in_child(child)
    leave.set()
    other.join()
    is_valid(cache)


def test_what_another_thread_was_making_is_made_again(cache: VolatileCache[Any, Any]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def make() -> str:
        inside.set()
        leave.wait()
        return "parent"

    other = threading.Thread(target=lambda: cache.get_or_set("k", make))
    other.start()
    inside.wait()

    def child() -> None:
        assert cache.get_or_set("k", lambda: "child") == "child"
        assert cache["k"] == "child"

    in_child(child)
    leave.set()
    other.join()
    assert cache["k"] == "parent"


def test_a_fork_inside_a_factory(cache: VolatileCache[Any, Any]) -> None:
    def make() -> str:
        in_child(lambda: None)
        return "made"

    assert cache.get_or_set("k", make) == "made"
    assert cache["k"] == "made"
