"""Tags, as far as `tests/unit/caches` cannot tell it of both caches: what the engine keeps of them."""

from __future__ import annotations

from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, purge


@pytest.mark.parametrize("size", [10, 100_000])
def test_the_cache_is_whole_afterwards(size: int) -> None:
    cache: VolatileCache[int, Any] = VolatileCache()
    for n in range(10):
        cache.set(n, bytes(size), tag=n % 2)
    assert cache.delete_tag(1) == 5
    is_valid(cache)


def test_what_the_kernel_took_is_not_counted_nor_its_next_value() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache()
    for number in range(2):
        cache.set("k", b"%d" % number, tag="t")
        purge(cache)
        if number:
            cache["k"] = b"without one"
        assert cache.delete_tag("t") == 0
    assert cache["k"] == b"without one"
    is_valid(cache)


def test_many_keys_that_left_are_not_kept_in_mind() -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache(maxsize=100)
    for n in range(10_000):
        cache.set(n, b"v", tag=n % 7)
    tags = engine_of(cache).tags
    assert tags is not None
    assert len(tags) < 3000
    assert sum(cache.delete_tag(tag) for tag in range(7)) == 100
    is_valid(cache)


def test_what_cannot_be_a_tag_of_a_decorator() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        volatile_cache(tag=[])  # type: ignore[call-overload]
