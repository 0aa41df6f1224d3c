"""`stale` for coroutines: a task of the caller's loop makes the next value."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import trio

from mvolatile import volatile_cache

from .sources import Source
from .sources import raised as raised
from .sources import source as source


def test_tasks_of_asyncio(source: Source) -> None:
    async def main() -> None:
        go = asyncio.Event()

        @volatile_cache(ttl=10, stale=5, timer=source.clock)
        async def f(n: int) -> Any:
            source.made += 1
            if source.now:
                await go.wait()
            return source.answer

        await f(1)
        source.now, source.answer = 10, b"second"
        assert await asyncio.gather(*(f(1) for _ in range(5))) == [b"first"] * 5
        gc.collect()  # nobody but the cache has the task
        go.set()
        while (value := await f(1)) != b"second":
            assert value == b"first"
            await asyncio.sleep(0)
        assert source.made == 2

        source.now = 20
        go.clear()
        assert await f(1) == b"second"
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        assert await f(1) == b"second"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await f(1) == b"second", "and another makes it"
        await asyncio.sleep(0)
        assert source.made == 4

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_it_began(source: Source) -> None:
    async def main() -> None:
        @volatile_cache(ttl=10, stale=5, timer=source.clock)
        async def f(n: int) -> Any:
            return source(n)

        await f(1)
        source.now, source.answer = 10, b"second"
        assert await f(1) == b"first"
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while await f(1) == b"first":
            await asyncio.sleep(0)
        assert await f(1) == b"second"

    asyncio.run(main())


def test_a_loop_that_ends_first(source: Source) -> None:
    @volatile_cache(ttl=10, stale=5, timer=source.clock)
    async def f(n: int) -> Any:
        if source.now == 10:
            await asyncio.Event().wait()
        return source(n)

    async def once() -> Any:
        value = await f(1)
        await asyncio.sleep(0)
        return value

    asyncio.run(once())
    source.now = 10
    assert asyncio.run(once()) == b"first"  # which cancels it at its end
    source.now, source.answer = 11, b"second"
    assert asyncio.run(once()) == b"first"
    assert asyncio.run(once()) == b"second"


def test_tasks_of_trio(source: Source, raised: list[Any]) -> None:
    async def main() -> None:
        @volatile_cache(ttl=10, stale=5, timer=source.clock)
        async def f(n: int) -> Any:
            await trio.lowlevel.checkpoint()
            return source(n)

        await f(1)
        source.now, source.answer = 10, ValueError("down")
        assert await f(1) == b"first"
        while not raised:
            await trio.lowlevel.checkpoint()
        source.answer = b"second"
        while await f(1) == b"first":
            await trio.lowlevel.checkpoint()
        assert await f(1) == b"second"
        source.now = 30
        source.answer = ValueError("down")
        with pytest.raises(ValueError, match="down"):
            await f(1)

    trio.run(main)


def test_by_hand_the_caller_makes_it(source: Source) -> None:
    @volatile_cache(ttl=10, stale=5, stale_if_error=100, timer=source.clock)
    async def f(n: int) -> Any:
        return source(n)

    def run() -> Any:
        try:
            f(1).send(None)
        except StopIteration as done:
            return done.value

    run()
    source.now, source.answer = 10, b"second"
    assert run() == b"second"
    source.now, source.answer = 40, ValueError("down")
    assert run() == b"second"
