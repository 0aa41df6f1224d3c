"""What a process counts is its own, whatever becomes of tables, keepers and parents."""

from __future__ import annotations

from typing import Any

import pytest

from mvolatile import SharedCache
from mvolatile.cache.cost import SECONDS, class_of
from support.keepers import in_child, kill_keeper

Cache = SharedCache[Any, Any]


def test_a_forked_child_is_a_client_by_itself(cache: Cache) -> None:
    """By the table that it inherited the parent would have counted its hits, and nobody would have known of it."""
    cache["a"] = 1
    assert cache["a"] == 1

    def child() -> None:
        assert cache["a"] == cache["a"] == 1
        assert cache.get("b") is None
        assert cache.cache_info()[:2] == (2, 1)
        assert cache.keeper_info()["clients"] == 2

    in_child(child)
    assert cache.cache_info()[:2] == (1, 0)


def test_what_was_counted_stays_when_the_table_moves(cache: Cache) -> None:
    cache["a"] = 1
    for _ in range(3):
        cache.get("a")
        cache.get("b")
    for i in range(4000):
        cache[i] = b""
    assert cache["a"] == 1
    kill_keeper(cache)
    cache["a"] = 1
    assert cache["a"] == 1
    assert cache.cache_info()[:2] == (5, 3)
    cache.close()
    assert cache.cache_info()[:2] == (5, 3)


def test_all_that_was_lost_is_counted_alike(cache: Cache) -> None:
    """With its age, and with what it took to make: found by who asks for it, or by a look at the oldest."""
    for key in range(2000):
        cache.set(key, b"v" * 1000, cost=0.5)
    assert cache.purge(1 << 20) >= 1 << 20
    for key in (0, 5):
        assert cache.get_or_set(key, lambda: b"again") == b"again"
    told = cache.keeper_info()
    assert sum(told["lost_ages"]) == told["purged"] > 900
    assert told["lost_seconds"] == pytest.approx(told["purged"] * SECONDS[class_of(0.5)])
    assert 0 < told["lost_age_sum"] < 1000 * told["purged"]
