"""Coroutine functions under asyncio, trio, anyio, and under nothing that is known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache import circles, singleflight
from mvolatile.cache.engine import engine_of

FRAMEWORKS = ["asyncio", "trio"]


@pytest.fixture(autouse=True)
def _idle_threads_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio keeps its worker threads for ten seconds, and a test ends when its threads have."""
    threads = pytest.importorskip("trio._core._thread_cache")
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.01)


def run(framework: str, main: Callable[[], Awaitable[Any]]) -> Any:
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(framework)
    return anyio.run(main, backend=framework)


async def until(ready: Callable[[], object]) -> None:
    import anyio

    while not ready():
        await anyio.sleep(0.001)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_tasks_wait_for_one_that_makes_it(framework: str) -> None:
    import anyio

    calls: list[int] = []

    @volatile_cache
    async def page(n: int) -> list[int]:
        calls.append(n)
        await until(lambda: len(circles.waiting) == 3)
        return [n]

    async def main() -> None:
        got: list[list[int]] = []

        async def ask() -> None:
            got.append(await page(1))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask)
        for value in got:
            value.append(0)
        assert got == [[1, 0]] * 4
        assert await page(1) == [1]
        assert await VolatileCache[str, int]().aget_or_set("k", lambda: 5) == 5

    run(framework, main)
    assert calls == [1]
    assert page.cache_info()[:2] == (4, 1)
    assert not circles.waiting


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cancelled_maker_is_replaced_and_a_cancelled_waiter_is_cancelled(framework: str) -> None:
    import anyio

    cache: VolatileCache[str, Any] = VolatileCache()

    async def main() -> None:
        ends: list[str] = []

        async def ask(name: str, make: Callable[[], Any], scope: anyio.CancelScope) -> None:
            with scope:
                ends.append(f"{name} {await cache.aget_or_set('k', make)}")
                return
            ends.append(f"{name} cancelled")

        async def other() -> str:
            return "taken over"

        maker, waiter, last = (anyio.CancelScope() for _ in range(3))
        async with anyio.create_task_group() as group:
            group.start_soon(ask, "maker", anyio.sleep_forever, maker)
            await until(lambda: engine_of(cache).calls)
            group.start_soon(ask, "waiter", other, waiter)
            group.start_soon(ask, "last", other, last)
            await until(lambda: len(circles.waiting) == 2)
            (call,) = engine_of(cache).calls.values()
            waiter.cancel()
            await until(lambda: "waiter cancelled" in ends)
            assert len(call.waiters) == 1
            maker.cancel()
        assert sorted(ends) == ["last taken over", "maker cancelled", "waiter cancelled"]

    run(framework, main)
    assert not circles.waiting


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_time_limit_of_a_waiter(framework: str) -> None:
    import anyio

    cache: VolatileCache[str, Any] = VolatileCache()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(cache.aget_or_set, "k", anyio.sleep_forever)
            await until(lambda: engine_of(cache).calls)
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.01):
                    await cache.aget_or_set("k", anyio.sleep_forever)
            assert not circles.waiting
            group.cancel_scope.cancel()

    run(framework, main)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("patience", [0.01, 1000.0])
def test_a_task_waits_for_a_thread_and_a_thread_for_a_task(
    framework: str, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio
    import anyio.to_thread

    monkeypatch.setattr(singleflight, "ORPHAN_SECONDS", patience)
    cache: VolatileCache[str, Any] = VolatileCache()
    waits = threading.Event()

    def in_thread() -> str:
        waits.wait()
        return "thread"

    async def in_task() -> str:
        await until(lambda: len(circles.waiting) == 1)
        return "task"

    async def main() -> None:
        got: list[str] = []

        async def ask(call: Callable[..., Any], *args: Any) -> None:
            got.append(await call(*args))

        async with anyio.create_task_group() as group:
            group.start_soon(ask, anyio.to_thread.run_sync, cache.get_or_set, "a", in_thread)
            await until(lambda: "a" in engine_of(cache).calls)
            group.start_soon(ask, cache.aget_or_set, "a", in_task)
            await until(lambda: len(circles.waiting) == 1)
            waits.set()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, cache.aget_or_set, "b", in_task)
            await until(lambda: "b" in engine_of(cache).calls)
            group.start_soon(ask, anyio.to_thread.run_sync, cache.get_or_set, "b", in_thread)
        assert got == ["thread", "thread", "task", "task"]

    run(framework, main)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_maker_that_asks_for_its_own_key_through_a_task(framework: str) -> None:
    import anyio

    cache: VolatileCache[str, Any] = VolatileCache()

    async def main() -> None:
        async def outer() -> int:
            got: list[int] = []

            async def ask() -> None:
                got.append(await cache.aget_or_set("k", lambda: 1))

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
            return got[0] + 1

        with anyio.fail_after(200):
            assert await cache.aget_or_set("k", outer) == 2

    run(framework, main)


def test_a_trio_clock_that_jumps_does_not_race() -> None:
    """With autojump all time passes at once, in steps of whatever timer there is: of those who wait there is none."""
    trio, testing = pytest.importorskip("trio"), pytest.importorskip("trio.testing")
    cache: VolatileCache[str, Any] = VolatileCache()

    async def make() -> str:
        await trio.to_thread.run_sync(lambda: threading.Event().wait(0.2))
        return "made"

    async def main() -> None:
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(cache.aget_or_set, "k", make)
        assert trio.current_time() == before
        assert cache["k"] == "made"

    trio.run(main, clock=testing.MockClock(autojump_threshold=0.01))


def test_trio_as_a_guest_of_asyncio() -> None:
    trio = pytest.importorskip("trio")
    cache: VolatileCache[str, Any] = VolatileCache()

    async def guest() -> list[str]:
        got: list[str] = []

        async def make() -> str:
            while len(circles.waiting) < 2:
                await trio.sleep(0.001)
            return "trio"

        async def ask() -> None:
            got.append(await cache.aget_or_set("k", make))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        return got

    async def host() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
        )
        while "k" not in engine_of(cache).calls:
            await asyncio.sleep(0.001)
        assert await cache.aget_or_set("k", lambda: "asyncio") == "trio"
        assert (await ended).unwrap() == ["trio", "trio"]

    asyncio.run(host())


class Yield:
    """A framework that nobody knows: it sends None to whatever is yielded."""

    def __await__(self) -> Any:
        yield self


def test_a_framework_that_is_not_known() -> None:
    """Nobody waits, and nobody is stuck."""
    runs: list[int] = []

    @volatile_cache
    async def slow(n: int) -> int:
        runs.append(n)
        await Yield()
        return n * 2

    one, two = slow(1), slow(1)
    one.send(None)
    two.send(None)
    results = []
    for coroutine in (one, two, slow(1)):
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        results.append(ended.value.value)
    assert results == [2, 2, 2]
    assert runs == [1, 1]
    assert slow.cache_info()[:2] == (1, 2)


def test_a_maker_closed_by_hand_stores_nothing() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    making = cache.aget_or_set("k", Yield)
    making.send(None)
    making.close()
    assert not engine_of(cache).calls
    assert cache.get_or_set("k", lambda: 1) == 1


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("ending", ["cancelled", "raises", "made"])
def test_a_cancellation_is_never_lost(steps: int, ending: str) -> None:
    """A waiter is cancelled some steps after its maker ended: it has its value by then, or it is cancelled. That it was
    cancelled and goes on with a value, as `asyncio.wait_for` of Python 3.11 has it, must not be.
    """

    async def main() -> None:
        go_on = asyncio.Event()

        async def make() -> str:
            await go_on.wait()
            if ending == "raises":
                raise LookupError("no")
            return "value"

        cache: VolatileCache[str, str] = VolatileCache()
        maker, waiter = (asyncio.create_task(cache.aget_or_set("k", make)) for _ in range(2))
        await asyncio.sleep(0.001)
        assert len(circles.waiting) == 1
        if ending == "cancelled":
            maker.cancel()
        go_on.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = waiter.done()
        assert waiter.cancel() is not was_done
        await asyncio.gather(maker, waiter, return_exceptions=True)
        assert waiter.cancelled() is not was_done

    asyncio.run(main())
    assert not circles.waiting


@pytest.mark.parametrize("scope", ["timeout", "task group"])
def test_asyncios_own_scopes_around_a_waiter(scope: str) -> None:
    async def main() -> None:
        cache: VolatileCache[str, str] = VolatileCache()
        maker = asyncio.create_task(cache.aget_or_set("k", asyncio.Event().wait))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        if scope == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await cache.aget_or_set("k", lambda: "mine")
        else:

            async def fail() -> None:
                while not circles.waiting:
                    await asyncio.sleep(0)
                raise LookupError("sibling")

            with pytest.raises(ExceptionGroup, match="unhandled errors") as raised:
                async with asyncio.TaskGroup() as group:
                    waiter = group.create_task(cache.aget_or_set("k", lambda: "mine"))
                    group.create_task(fail())
            assert [type(error) for error in raised.value.exceptions] == [LookupError]
            assert waiter.cancelled()
        assert not circles.waiting
        maker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await maker

    asyncio.run(main())
