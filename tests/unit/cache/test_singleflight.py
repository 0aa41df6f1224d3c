"""Single-flight: one makes the value, the others wait; nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache import circles, singleflight
from mvolatile.cache.calls import Call, Token
from mvolatile.cache.engine import engine_of
from support.waiting import await_waiters

from .helpers import in_child


@pytest.fixture
def cache() -> VolatileCache[Any, Any]:
    return VolatileCache()


def test_a_maker_that_vanished_without_a_word_is_replaced(
    cache: VolatileCache[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(singleflight, "ORPHAN_SECONDS", 0.01)
    token = Token()
    lost = Call("k", token)
    lost.crew.thread = -1
    engine_of(cache).calls["k"] = lost
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(cache.get_or_set, "k", lambda: "made")
        await_waiters(1)
        del token
        assert waiter.result(200) == "made"


def test_a_factory_that_reenters(cache: VolatileCache[int, int]) -> None:
    def fib(n: int) -> int:
        return cache.get_or_set(n, lambda: n if n < 2 else fib(n - 1) + fib(n - 2))

    assert fib(60) == 1548008755920
    assert cache.get_or_set(100, lambda: cache.get_or_set(100, lambda: 5) + 1) == 6
    assert cache[100] == 6


def test_a_circle_of_threads_is_no_deadlock(cache: VolatileCache[str, str]) -> None:
    other: VolatileCache[str, str] = VolatileCache()
    both = threading.Barrier(2)

    def one() -> str:
        return cache.get_or_set(
            "a", lambda: (both.wait() and "") or "a" + other.get_or_set("b", lambda: "b!")
        )

    def two() -> str:
        return other.get_or_set(
            "b", lambda: (both.wait() and "") or "b" + cache.get_or_set("a", lambda: "a!")
        )

    with ThreadPoolExecutor(2) as pool:
        results = {pool.submit(call).result for call in (one, two)}
        found = {result(10) for result in results}
    assert found <= {"ab", "ab!", "aba!", "ba", "ba!", "bab!"}
    assert not circles.waiting


def test_async_circle_and_reentry(cache: VolatileCache[str, Any]) -> None:
    async def main() -> None:
        both = asyncio.Barrier(2)

        async def make(own: str, other: str) -> str:
            await both.wait()
            return own + await cache.aget_or_set(other, lambda: other + "!")

        found = await asyncio.wait_for(
            asyncio.gather(
                cache.aget_or_set("a", lambda: make("a", "b")), cache.aget_or_set("b", lambda: make("b", "a"))
            ),
            200,
        )
        assert all(value[0] in "ab" for value in found)
        again = await cache.aget_or_set("x", lambda: cache.aget_or_set("x", lambda: 7))
        assert again == 7

    asyncio.run(main())


async def _call(cache: VolatileCache[str, Any], make: Callable[[], Any]) -> Any:
    return await cache.aget_or_set("k", make)


def test_a_factory_that_asks_for_its_own_key_through_a_task(cache: VolatileCache[str, Any]) -> None:
    async def inner() -> int:
        return 1

    async def gathered() -> int:
        (value,) = await asyncio.gather(cache.aget_or_set("gather", inner))
        return value + 1

    async def waited_for() -> int:
        return 1 + await asyncio.wait_for(cache.aget_or_set("wait_for", inner), 200)

    async def in_a_thread() -> int:
        return 1 + await asyncio.to_thread(cache.get_or_set, "thread", lambda: 1)

    async def main() -> list[int]:
        return [
            await asyncio.wait_for(cache.aget_or_set(key, make), 200)
            for key, make in {"gather": gathered, "wait_for": waited_for, "thread": in_a_thread}.items()
        ]

    assert asyncio.run(main()) == [2, 2, 2]
    assert cache.get_or_set("own loop", lambda: asyncio.run(cache.aget_or_set("own loop", inner)) + 1) == 2
    assert not circles.waiting


def test_a_thread_in_a_copy_of_the_factorys_context(cache: VolatileCache[str, Any]) -> None:
    def make() -> int:
        with ThreadPoolExecutor(1) as pool:
            copy = contextvars.copy_context()
            return 1 + pool.submit(copy.run, cache.get_or_set, "k", lambda: 1).result(200)

    assert cache.get_or_set("k", make) == 2


@pytest.mark.parametrize("ring", [2, 3, 5])
def test_a_circle_of_makers_that_ask_through_tasks(cache: VolatileCache[int, Any], ring: int) -> None:
    async def main() -> list[int]:
        all_make = asyncio.Barrier(ring)

        async def make(number: int) -> int:
            await all_make.wait()
            other = (number + 1) % ring
            (value,) = await asyncio.gather(cache.aget_or_set(other, lambda: 0))
            return value + 1

        calls = (cache.aget_or_set(number, partial(make, number)) for number in range(ring))
        return await asyncio.wait_for(asyncio.gather(*calls), 200)

    assert sorted(asyncio.run(main())) == list(range(1, ring + 1))
    assert not circles.waiting


def test_a_waiting_thread_keeps_its_loops_makers_waiting(cache: VolatileCache[str, Any]) -> None:
    """A task makes k1; another task of its loop waits, as a thread does, for k2, whose maker waits for k1."""
    making_both, asked = threading.Event(), threading.Event()

    def make_k2() -> str:
        making_both.wait()
        asked.wait(0.05)
        return "k2 of " + cache.get_or_set("k1", lambda: "my own k1")

    async def main() -> None:
        async def make_k1() -> str:
            making_both.set()
            await asyncio.sleep(0.01)
            return "k1"

        maker = asyncio.create_task(cache.aget_or_set("k1", make_k1))
        await asyncio.sleep(0)
        assert cache.get_or_set("k2", lambda: "my own k2") in ("k2 of my own k1", "my own k2")
        assert await maker == "k1"

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(cache.get_or_set, "k2", make_k2)
        while "k2" not in engine_of(cache).calls:
            threading.Event().wait(0.001)
        pool.submit(asyncio.run, main()).result(200)
        other.result(200)


def abandon(cache: VolatileCache[str, Any]) -> None:
    """A maker whose loop is closed before it is done."""
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        kept.append(asyncio.create_task(cache.aget_or_set("k", asyncio.Event().wait)))
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    loop.close()


kept: list[asyncio.Task[Any]] = []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("held", [True, False], ids=["task held", "task collected"])
def test_a_maker_in_a_closed_loop_is_replaced(cache: VolatileCache[str, Any], held: bool) -> None:
    def in_a_thread() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(cache.get_or_set, "k", lambda: "thread").result(200)

    async def ask() -> str:
        return await asyncio.wait_for(cache.aget_or_set("k", lambda: "loop"), 200)

    ways: dict[str, Callable[[], str]] = {"thread": in_a_thread, "loop": lambda: asyncio.run(ask())}
    for name, askers in ways.items():
        abandon(cache)
        if not held:
            kept.clear()
            gc.collect()
            assert "k" not in engine_of(cache).calls, "nothing of ours keeps the task"
        assert askers() == name
        cache.clear()
        for task in kept:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        kept.clear()


def test_a_fork_while_a_task_makes_it(cache: VolatileCache[str, Any]) -> None:
    async def main() -> None:
        maker = asyncio.create_task(cache.aget_or_set("k", asyncio.Event().wait))
        await asyncio.sleep(0)

        def child() -> None:
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(cache.get_or_set, "k", lambda: "child").result(200) == "child"
            assert cache["k"] == "child"

        in_child(child)
        maker.cancel()

    asyncio.run(main())
