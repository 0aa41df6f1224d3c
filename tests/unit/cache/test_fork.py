"""After a fork both sides have a working cache, whatever other threads were doing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.engine import engine_of
from support.c_fork import in_c_child, in_child

from .helpers import is_valid, purge, seal

Fork = Callable[[Callable[[], None]], None]
forked = pytest.mark.parametrize(
    "in_some_child",
    [
        pytest.param(in_child, id="by-python"),
        pytest.param(in_c_child, id="in-c", marks=pytest.mark.own_process),
    ],
)
"""In C none of Python's hooks runs in the child."""


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


@forked
def test_while_another_thread_is_in_the_middle_of_a_change(
    cache: VolatileCache[Any, Any], in_some_child: Fork
) -> None:
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
    assert engine_of(cache).lookup.torn

    def child() -> None:
        leave.set()
        right(cache)
        cache["child"] = 1
        assert cache["child"] == 1
        is_valid(cache)
        cache.close()

    in_some_child(child)
    leave.set()
    other.join()
    is_valid(cache)


@forked
@pytest.mark.parametrize("decorated", [False, True])
def test_what_another_thread_was_making_is_made_again(
    cache: VolatileCache[Any, Any], in_some_child: Fork, decorated: bool
) -> None:
    """Its maker is not in the child, and would never land."""
    inside, leave = threading.Event(), threading.Event()
    where = "parent"

    def factory() -> str:
        if where == "parent":
            inside.set()
            leave.wait()
        return where

    make = volatile_cache()(factory) if decorated else lambda: cache.get_or_set("k", factory)
    other = threading.Thread(target=make)
    other.start()
    inside.wait()

    def child() -> None:
        nonlocal where
        where = "child"
        assert make() == make() == "child"

    in_some_child(child)
    leave.set()
    other.join()
    where = "made again"
    assert make() == "parent"


def test_a_fork_inside_a_factory(cache: VolatileCache[Any, Any]) -> None:
    def make() -> str:
        in_child(lambda: None)
        return "made"

    assert cache.get_or_set("k", make) == "made"
    assert cache["k"] == "made"
