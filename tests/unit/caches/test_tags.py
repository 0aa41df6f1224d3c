"""Tags: `delete_tag` deletes what was last stored with one, and nothing that is being made with it stays."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mvolatile import volatile_cache

from .conftest import Factory
from .helpers import LARGE, purge


@pytest.mark.parametrize("size", [10, LARGE])
def test_all_of_a_tag_and_no_others(cache: Any, size: int) -> None:
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


def test_a_key_has_the_tag_of_its_last_store(cache: Any) -> None:
    cache.set("k", b"1", tag="t")
    cache["k"] = b"2"
    assert cache.delete_tag("t") == 0
    cache.set("k", b"3", tag="t")
    cache.set("k", b"4", tag="u")
    assert cache.delete_tag("t") == 0
    assert cache.touch("k", 50)
    assert cache.delete_tag("u") == 1
    cache.set("n", 1, tag="t", ttl=500)
    assert cache.incr("n") == 2
    assert cache.delete_tag("t") == 1
    cache.set("k", b"5", tag="t")
    cache.clear()
    cache["k"] = b"6"
    assert cache.delete_tag("t") == 0
    assert cache["k"] == b"6"


def test_what_the_kernel_took_is_not_counted(cache: Any) -> None:
    cache.set("k", bytes(LARGE), tag="t")
    purge(cache)
    assert cache.delete_tag("t") == 0
    cache.set("k", bytes(LARGE), tag="t")
    purge(cache)
    cache["k"] = b"anew"
    assert cache.delete_tag("t") == 0
    assert cache["k"] == b"anew"


def test_what_is_being_made_when_its_tag_is_deleted_does_not_stay(cache: Any) -> None:
    begun, go = threading.Barrier(3), threading.Event()

    def make() -> bytes:
        begun.wait(60)
        go.wait(60)
        return b"of what was there before"

    makers = [
        threading.Thread(target=cache.get_or_set, args=(key, make), kwargs={"tag": tag})
        for key, tag in (("k", "t"), ("other", "u"))
    ]
    for maker in makers:
        maker.start()
    begun.wait(60)
    cache.delete_tag("t")
    assert cache.get_or_set("k", lambda: b"new", tag="t") == b"new", "who asks now waits for nobody"
    cache.delete_tag("t")
    go.set()
    for maker in makers:
        maker.join(60)
    assert list(cache) == ["other"]


def test_the_decorator(kind: str, cache_factory: Factory) -> None:
    options: dict[str, Any] = {} if kind == "private" else {"shared": cache_factory().name}

    @volatile_cache(tag=lambda user, page=0: ("user", user), **options)
    def pages(user: int, page: int = 0) -> bytes:
        return bytes([user, page])

    for user in range(3):
        for page in range(3):
            pages(user, page=page)
    assert pages.cache.delete_tag(("user", 1)) == 3
    assert len(pages.cache) == 6

    @volatile_cache(tag="all", **options)
    async def plain(n: int) -> int:
        return n

    assert asyncio.run(plain(1)) == 1
    assert plain.cache.delete_tag("all") == 1
    pages.cache.clear()
    pages.cache.close()
    plain.cache.close()


def test_what_cannot_be_a_tag(cache: Any) -> None:
    for store in (
        lambda: cache.set("k", b"v", tag=[]),
        lambda: cache.add("k", b"v", tag=[]),
        lambda: cache.get_or_set("k", bytes, tag=[]),
        lambda: cache.delete_tag([]),
    ):
        with pytest.raises(TypeError):
            store()
    assert not len(cache)


def test_where_something_is_behind(cache_factory: Factory, kind: str) -> None:
    behind: dict[str, Any] = {}
    cache = cache_factory(behind=behind)
    for use in (
        lambda: cache.set("k", b"v", tag="t"),
        lambda: cache.get_or_set("k", bytes, tag="t"),
        lambda: volatile_cache(tag="t", behind=behind, shared=None if kind == "private" else "x"),
    ):
        with pytest.raises(ValueError, match="no tags"):
            use()
