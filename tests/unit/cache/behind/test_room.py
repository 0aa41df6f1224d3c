"""Where the queue is full: a store waits for what is written behind, but not for what hangs, nor for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.behind import Tier, room, writer
from mvolatile.cache.engine import engine_of

from ..helpers import purge
from .mappings import Behind, written

FOR_EVER = 600.0


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def cache(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> Iterator[VolatileCache[Any, Any]]:
    """With room for ten values of a hundred bytes, and all the patience there is."""
    monkeypatch.setattr(room, "SECONDS", FOR_EVER)
    cache: VolatileCache[Any, Any] = VolatileCache(behind=behind)
    tier_of(cache).pending.most = 1000
    yield cache
    cache.close()


def tier_of(cache: VolatileCache[Any, Any]) -> Tier:
    tier = engine_of(cache).tier
    assert tier is not None
    return tier


def fill(cache: VolatileCache[Any, Any], came: threading.Event) -> None:
    """One value in hand, ten that wait."""
    cache["in hand"] = bytes(100)
    assert came.wait(60)
    for n in range(10):
        cache["waits", n] = bytes(100)


def dropped(cache: VolatileCache[Any, Any]) -> int:
    return cache.cache_info().behind_dropped


def test_a_store_waits_until_there_is_room(cache: VolatileCache[Any, Any], behind: Behind) -> None:
    came, go = behind.stop("set")
    fill(cache, came)
    entered, done = threading.Event(), []

    def store() -> None:
        entered.set()
        for n in range(50):
            cache[n] = bytes(100)
            done.append(n)

    threads = [threading.Thread(target=store) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert entered.wait(60)
    assert cache["waits", 3] == bytes(100), "reading goes on"
    assert not done
    assert 0 not in cache, "it is stored nowhere before there is room: memory may lose it"
    go.set()
    for thread in threads:
        thread.join(60)
    written(cache)
    assert dropped(cache) == 0
    assert len(behind) == 61


def test_what_hangs_is_waited_for_once(
    cache: VolatileCache[Any, Any], behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache["last"] = b"old"
    written(cache)
    came, go = behind.stop("set")
    fill(cache, came)
    monkeypatch.setattr(room, "SECONDS", 0.01)
    cache["last"] = b"new, and left out"
    monkeypatch.setattr(room, "SECONDS", FOR_EVER)
    for n in range(20):
        cache[n] = bytes(100)
    cache["large"] = bytes(5000)
    assert dropped(cache) == 22
    purge(cache)
    assert cache.get("last") is None, "what found no room took the older value along"
    go.set()
    written(cache)
    came, go = behind.stop("set")
    fill(cache, came)
    go.set()
    cache["one more"] = bytes(100)
    assert dropped(cache) == 22, "it is waited for again"
    cache.close()
    other: VolatileCache[Any, Any] = VolatileCache(behind=behind)
    tier_of(other).pending.most = 1000
    assert other.get("last") is None
    assert other["waits", 0] == bytes(100)
    other["large"] = bytes(5000)
    other.close()
    assert VolatileCache(behind=behind)["large"] == bytes(5000), "alone it is let in"


def test_what_fails_is_not_waited_for(
    cache: VolatileCache[Any, Any], behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE", FOR_EVER)
    behind.fail("set", "del")

    def fail() -> None:
        cache["k"] = b"v"
        written(cache)

    with pytest.warns(match="No space left"):
        fail()
    for n in range(20):
        cache[n] = bytes(100)
    assert dropped(cache) == 10
    behind.before = lambda what, key: None


def test_a_finalizer_in_the_middle_of_a_write_waits_for_nobody(
    cache: VolatileCache[Any, Any], behind: Behind
) -> None:
    def use(what: str, key: Any) -> None:
        behind.before = lambda what, key: None
        for n in range(20):
            cache["inner", n] = bytes(100)

    behind.before = use
    cache["k"] = b"v"
    written(cache)
    assert dropped(cache) == 10
    assert len(behind) == 11


def test_a_loop_does_not_stand_still(cache: VolatileCache[Any, Any], behind: Behind) -> None:
    came, go = behind.stop("set")
    fill(cache, came)

    async def make() -> None:
        for n in range(50):
            assert await cache.aget_or_set(n, lambda: bytes(100)) == bytes(100)

    async def main() -> None:
        cache["plain"] = bytes(100)
        assert dropped(cache) == 1, "a plain store in a task waits for nobody"
        task = asyncio.create_task(make())
        while cache.cache_info().misses == 0:
            await asyncio.sleep(0)
        assert 0 not in cache
        go.set()
        await task

    asyncio.run(main())
    written(cache)
    assert dropped(cache) == 1
    assert len(behind) == 61


def test_a_cancelled_task_stores_nothing(cache: VolatileCache[Any, Any], behind: Behind) -> None:
    came, go = behind.stop("set")
    fill(cache, came)

    async def main() -> None:
        task = asyncio.create_task(cache.aget_or_set("k", lambda: bytes(100)))
        while cache.cache_info().misses == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(main())
    assert "k" not in cache


def test_through_writes_what_waits(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SECONDS", FOR_EVER)
    cache: VolatileCache[Any, Any] = VolatileCache(behind=behind, behind_mode="through")
    tier_of(cache).pending.most = 1000
    threads = [
        threading.Thread(target=lambda n=n: [cache.set((n, i), bytes(600)) for i in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert dropped(cache) == 0
    assert len(behind) == 200
    cache.close()
