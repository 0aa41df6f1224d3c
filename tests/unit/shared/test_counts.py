"""What a process counts is its own, whatever becomes of tables, keepers and parents."""

from __future__ import annotations

from typing import Any

from mvolatile import SharedCache
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
