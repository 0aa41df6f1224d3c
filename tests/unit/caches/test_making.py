"""A missing value is made once, while others wait; nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mvolatile import VolatilityWarning
from mvolatile.cache import circles
from support.waiting import await_waiters

from .helpers import LARGE


@pytest.fixture(autouse=True)
def _nobody_waits_afterwards() -> Any:
    yield
    assert not circles.waiting


def test_it_is_made_on_a_miss_alone(cache: Any) -> None:
    assert cache.get_or_set("k", lambda: 1) == 1
    assert cache.get_or_set("k", lambda: pytest.fail("it is there")) == 1
    assert cache["k"] == 1


@pytest.mark.parametrize("size", [10, LARGE])
def test_many_threads_make_it_once(cache: Any, size: int) -> None:
    made: list[int] = []

    def make() -> bytearray:
        await_waiters(7)
        made.append(1)
        return bytearray(size)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: cache.get_or_set("k", make), range(8)))
    assert made == [1]
    for result in results:
        assert result == bytearray(size)
        result[0] = 1  # each has his own
    assert cache["k"] == bytearray(size)


def test_what_the_maker_raises_all_get_and_nothing_is_stored(cache: Any) -> None:
    def make() -> str:
        await_waiters(3)
        raise LookupError("no such thing")

    def call(_: int) -> str:
        with pytest.raises(LookupError, match="no such thing"):
            cache.get_or_set("k", make)
        return "raised"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == ["raised"] * 4
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: 1) == 1


def test_when_the_maker_is_interrupted_another_takes_over(cache: Any) -> None:
    first = threading.Event()

    def interrupted() -> str:
        first.set()
        await_waiters(1)
        raise KeyboardInterrupt

    def main() -> None:
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set("k", interrupted)

    with ThreadPoolExecutor(2) as pool:
        maker = pool.submit(main)
        first.wait()
        waiter = pool.submit(cache.get_or_set, "k", lambda: "mine")
        maker.result()
        assert waiter.result(200) == "mine"
    assert cache["k"] == "mine"


@pytest.mark.parametrize("change", ["set", "delete", "pop", "clear", "set_many", "add", "incr", "setdefault"])
def test_a_value_made_while_its_key_changed_is_not_stored(cache: Any, change: str) -> None:
    def make() -> Any:
        if change == "set":
            cache["k"] = "newer"
        elif change == "set_many":
            cache.set_many({"k": "newer"})
        elif change == "add":
            assert cache.add("k", "newer")
        elif change == "incr":
            assert cache.incr("k", default=0) == 1
        elif change == "setdefault":
            assert cache.setdefault("k", "newer") == "newer"
        elif change == "delete":
            cache.delete_many(["k"])
        elif change == "pop":
            cache.pop("k", None)
        else:
            cache.clear()
        return "outdated"

    there = {"incr": 1, "delete": None, "pop": None, "clear": None}.get(change, "newer")
    if change == "setdefault":
        there = cache.get_or_set("k", make) and cache["k"]  # asked from within, it makes its own
        assert there in ("newer", "outdated")
    else:
        assert cache.get_or_set("k", make) == "outdated"
    assert cache.get("k") == there
    assert cache.get_or_set("k", lambda: "later") == ("later" if there is None else there)


def test_a_condition(cache: Any) -> None:
    assert cache.get_or_set("k", lambda: None, condition=lambda value: value is not None) is None
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: 5, condition=lambda value: value is not None) == 5
    assert cache["k"] == 5
    with pytest.raises(TypeError, match="condition"):
        cache.get_or_set("k", lambda: 5, condition=5)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("l", lambda: 5, condition=lambda value: value / 0)
    assert "l" not in cache
    assert cache.get_or_set("l", lambda: 6) == 6


@pytest.mark.parametrize("unstorable", ["warn", "return", "raise"])
def test_what_cannot_be_stored(cache_factory: Any, unstorable: str) -> None:
    cache = cache_factory(unstorable=unstorable)
    value = lambda: 0  # noqa: E731
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if unstorable == "raise":
            with pytest.raises(TypeError, match="does not pickle"):
                cache.get_or_set("k", lambda: value)
        else:
            assert cache.get_or_set("k", lambda: value) is value
    assert [one.category for one in told] == [VolatilityWarning] * (unstorable == "warn")
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: 1) == 1


def test_who_waits_for_what_is_not_stored_has_it_all_the_same(cache: Any) -> None:
    made: list[int] = []

    def make() -> list[int]:
        if not made:
            await_waiters(2)
        made.append(1)
        return [len(made)]

    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda _: cache.get_or_set("k", make, ttl=0), range(3)))
    assert all(value[0] in (1, 2, 3) for value in got)
    assert "k" not in cache


def test_a_factory_that_reenters(cache: Any) -> None:
    def fib(n: int) -> int:
        return cache.get_or_set(n, lambda: n if n < 2 else fib(n - 1) + fib(n - 2))

    assert fib(30) == 832040
    assert cache.get_or_set(100, lambda: cache.get_or_set(100, lambda: 5) + 1) == 6
    assert cache[100] in (5, 6)


def test_a_circle_of_threads_is_no_deadlock(cache_factory: Any) -> None:
    cache = cache_factory()
    both = threading.Barrier(2)

    def one() -> str:
        return cache.get_or_set("a", lambda: (both.wait() and "") or "a" + cache.get_or_set("b", lambda: "!"))

    def two() -> str:
        return cache.get_or_set("b", lambda: (both.wait() and "") or "b" + cache.get_or_set("a", lambda: "!"))

    with ThreadPoolExecutor(2) as pool:
        found = {future.result(200) for future in [pool.submit(one), pool.submit(two)]}
    assert found <= {"ab", "a!", "ab!", "ba", "b!", "ba!"}


def test_tasks_make_it_once(cache: Any) -> None:
    made: list[int] = []

    async def make() -> str:
        made.append(1)
        while len(circles.waiting) < 4:
            await asyncio.sleep(0)
        return "value"

    async def main() -> list[Any]:
        return await asyncio.gather(*(cache.aget_or_set("k", make) for _ in range(5)))

    assert asyncio.run(main()) == ["value"] * 5
    assert made == [1]
    assert asyncio.run(cache.aget_or_set("k", make)) == "value"
    assert asyncio.run(cache.aget_or_set("plain", lambda: 3)) == 3


def test_errors_and_cancellation_of_tasks(cache: Any) -> None:
    async def fail() -> None:
        while not circles.waiting:
            await asyncio.sleep(0)
        raise LookupError("no")

    began = asyncio.Event()

    async def for_ever() -> None:
        began.set()
        await asyncio.Event().wait()

    async def main() -> None:
        asked = (cache.aget_or_set("k", fail) for _ in range(2))
        assert [type(end) for end in await asyncio.gather(*asked, return_exceptions=True)] == [
            LookupError
        ] * 2
        maker = asyncio.create_task(cache.aget_or_set("k", for_ever))
        await began.wait()

        async def other() -> str:
            return "taken over"

        waiter = asyncio.create_task(cache.aget_or_set("k", other))
        while not circles.waiting:
            await asyncio.sleep(0)
        maker.cancel()
        assert await waiter == "taken over"
        with pytest.raises(asyncio.CancelledError):
            await maker

    asyncio.run(main())
    assert cache["k"] == "taken over"


def test_a_thread_waits_for_a_task(cache: Any) -> None:
    started = threading.Event()

    async def make() -> str:
        started.set()
        while not circles.waiting:
            await asyncio.sleep(0.001)
        return "by the task"

    async def call() -> Any:
        return await cache.aget_or_set("k", make)

    with ThreadPoolExecutor(2) as pool:
        task = pool.submit(asyncio.run, call())
        started.wait()
        assert pool.submit(cache.get_or_set, "k", lambda: "by the thread").result(200) == "by the task"
        assert task.result() == "by the task"


def test_a_factory_that_asks_for_its_own_key(cache: Any) -> None:
    async def inner() -> int:
        return 1

    async def gathered() -> int:
        (value,) = await asyncio.gather(cache.aget_or_set("gather", inner))
        return int(value) + 1

    async def in_a_thread() -> int:
        return 1 + int(await asyncio.to_thread(cache.get_or_set, "thread", lambda: 1))

    async def main() -> list[int]:
        return [
            await asyncio.wait_for(cache.aget_or_set(key, make), 200)
            for key, make in {"gather": gathered, "thread": in_a_thread}.items()
        ]

    assert asyncio.run(main()) == [2, 2]

    def by_a_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            copy = contextvars.copy_context()
            return 1 + int(pool.submit(copy.run, cache.get_or_set, "k", lambda: 1).result(200))

    assert cache.get_or_set("k", by_a_thread) == 2


@pytest.mark.parametrize("framework", ["asyncio", "trio"])
def test_frameworks(cache: Any, framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(framework)
    threads = pytest.importorskip("trio._core._thread_cache")
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.01)
    calls: list[int] = []

    async def until(ready: Callable[[], object]) -> None:
        while not ready():
            await anyio.sleep(0.001)

    async def page() -> list[int]:
        calls.append(1)
        await until(lambda: len(circles.waiting) == 3)
        return [1]

    async def main() -> None:
        got: list[list[int]] = []

        async def ask(make: Callable[[], Awaitable[list[int]]]) -> None:
            got.append(await cache.aget_or_set("k", make))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask, page)
        for value in got:
            value.append(0)
        assert got == [[1, 0]] * 4
        began = anyio.Event()

        async def for_ever() -> list[int]:
            began.set()
            await anyio.sleep_forever()
            return []

        async with anyio.create_task_group() as group:
            group.start_soon(cache.aget_or_set, "l", for_ever)
            await began.wait()
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.01):
                    await cache.aget_or_set("l", anyio.sleep_forever)
            group.cancel_scope.cancel()

    anyio.run(main, backend=framework)
    assert calls == [1]
    assert cache["k"] == [1]
