"""`tag=` and `delete_tag`: all values of one tag are deleted together, and none that is being made with it stays."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, purge


@pytest.mark.parametrize("size", [10, 100_000])
def test_all_of_a_tag_and_no_others(size: int) -> None:
    cache: VolatileCache[Any, Any] = VolatileCache()
    cache["before"] = bytes(size)
    for n in range(10):
        cache.set(n, bytes(size), tag=n % 2)
    cache["after"] = bytes(size)
    assert cache.add("added", bytes(size), tag=1)
    cache.set_many({"many": bytes(size)}, tag=1)
    assert cache.get_or_set("made", lambda: bytes(size), tag=1) == bytes(size)
    assert asyncio.run(cache.aget_or_set("amade", lambda: bytes(size), tag=1)) == bytes(size)
    assert cache.delete_tag(1) == 9
    assert sorted(map(str, cache)) == ["0", "2", "4", "6", "8", "after", "before"]
    assert cache.delete_tag(1) == cache.delete_tag("no such") == 0
    is_valid(cache)


def test_a_key_has_the_tag_of_its_last_store() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    cache.set("k", b"1", tag="t")
    cache["k"] = b"2"
    assert cache.delete_tag("t") == 0
    cache.set("k", b"3", tag="t")
    cache.set("k", b"4", tag="u")
    assert cache.delete_tag("t") == 0
    assert cache.touch("k", 50)
    assert cache.delete_tag("u") == 1
    cache.set("n", 1, tag="t", ttl=math.inf)
    assert cache.incr("n") == 2
    assert cache.delete_tag("t") == 1
    cache.set("k", b"5", tag="t")
    purge(cache)
    cache["k"] = b"6"
    assert cache.delete_tag("t") == 0
    cache.set("k", b"7", tag="t")
    purge(cache)
    assert cache.delete_tag("t") == 0, "it was not there"
    cache.set("k", b"8", tag="t")
    cache.clear()
    cache["k"] = b"9"
    assert cache.delete_tag("t") == 0
    assert cache["k"] == b"9"


def test_what_is_being_made_when_its_tag_is_deleted_does_not_stay() -> None:
    begun, go = threading.Event(), threading.Event()

    def make() -> bytes:
        begun.set()
        go.wait(60)
        return b"of what was there before"

    cache: VolatileCache[str, bytes] = VolatileCache()
    makers = [
        threading.Thread(target=cache.get_or_set, args=(key, make), kwargs={"tag": tag})
        for key, tag in (("k", "t"), ("other", "u"))
    ]
    for maker in makers:
        maker.start()
    assert begun.wait(60)
    while len(engine_of(cache).calls) < 2:
        pass
    cache.delete_tag("t")
    go.set()
    for maker in makers:
        maker.join(60)
    assert list(cache) == ["other"]


def test_the_decorator() -> None:
    @volatile_cache(tag=lambda user, page=0: ("user", user))
    def pages(user: int, page: int = 0) -> bytes:
        return bytes([user, page])

    for user in range(3):
        for page in range(3):
            pages(user, page=page)
    assert pages.cache.delete_tag(("user", 1)) == 3
    assert len(pages.cache) == 6

    @volatile_cache(tag="all")
    def plain(n: int) -> int:
        return n

    plain(1)
    assert plain.cache.delete_tag("all") == 1


def test_many_keys_that_left_are_not_kept_in_mind() -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache(maxsize=100)
    for n in range(10_000):
        cache.set(n, b"v", tag=n % 7)
    tags = engine_of(cache).tags
    assert tags is not None
    assert len(tags) < 3000
    assert sum(cache.delete_tag(tag) for tag in range(7)) == 100
    is_valid(cache)


def test_what_cannot_be_a_tag() -> None:
    cache: VolatileCache[Any, bytes] = VolatileCache()
    for store in (
        lambda: cache.set("k", b"v", tag=[]),  # type: ignore[arg-type]
        lambda: cache.get_or_set("k", bytes, tag=[]),  # type: ignore[arg-type]
        lambda: cache.delete_tag([]),  # type: ignore[arg-type]
        lambda: volatile_cache(tag=[]),  # type: ignore[call-overload]
    ):
        with pytest.raises(TypeError, match="unhashable"):
            store()
    assert not cache
