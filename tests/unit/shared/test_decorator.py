"""``@volatile_cache(shared=...)``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mvolatile import volatile_cache
from mvolatile.shared import decorator
from support.processes import run_python


@pytest.fixture(autouse=True)
def _own_caches(runtime: Path, _leaves_nothing: None) -> Iterator[None]:
    yield
    for cache in decorator._caches.values():
        cache.close()
    decorator._caches.clear()


def test_one_for_two_functions_and_processes() -> None:
    calls = []

    @volatile_cache(shared="test", name="square")
    def square(x: float, *, plus: int = 0) -> float:
        calls.append(x)
        return x * x + plus

    @volatile_cache(shared="test", typed=True, ttl=1000)
    def kind(x: float) -> str:
        return type(x).__name__

    assert [square(2), square(2), square(2.0), square(2, plus=1), square(2, plus=1)] == [4, 4, 4, 5, 5]
    assert calls == [2, 2.0, 2]  # as functools.lru_cache takes 2 and 2.0 for two
    assert [kind(1), kind(1.0), kind(True)] == ["int", "float", "bool"]
    assert square.cache is kind.cache
    assert square.cache_info().currsize == 6
    assert square.cache[square.cache_key(2, plus=1)] == 5
    assert square.cache_delete(2)
    assert not square.cache_delete(2)
    assert (kind.cache.ttl(kind.cache_key(1)) or 0) <= 1000
    assert square.cache_parameters()["shared"] == "test"
    assert sum(key[0] == "square" for key in square.cache) == 2

    def program() -> None:
        from mvolatile import volatile_cache

        print(volatile_cache(shared="test", name="value")(lambda x: x + 1)(1))

    assert run_python(program).check().stdout == "2\n"

    def value(x: int) -> int:
        raise AssertionError("it is there")

    assert volatile_cache(shared="test", name="value")(value)(1) == 2
    square.cache_clear()
    assert kind.cache_info().currsize == 0


def test_coroutines() -> None:
    calls = []

    @volatile_cache(shared="test", name="make", condition=lambda value: value > 0)
    async def make(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0.01)
        return x

    async def body() -> list[int]:
        return await asyncio.gather(*(make(x) for x in (1, 1, 1, 0)))

    assert asyncio.run(body()) == [1, 1, 1, 0]
    assert asyncio.run(make(0)) == 0
    assert sorted(calls) == [0, 0, 1]


def test_misuse() -> None:
    with pytest.raises(TypeError, match="no maxsize, timer"):
        volatile_cache(5, shared="test", timer=lambda: 0.0)
    with pytest.raises(TypeError, match="give key="):

        class Some:
            @volatile_cache(shared="test")
            def method(self) -> int:
                return 1

    with pytest.raises(TypeError, match="no function"):
        volatile_cache(shared="test")(5)  # type: ignore[arg-type]

    @volatile_cache(shared="test")
    def function(x: object) -> int:
        return 1

    with pytest.raises(TypeError, match="a key of type"):
        function([])

    class Other:
        @volatile_cache(shared="test", key=lambda self, x: x)
        def method(self, x: int) -> int:
            return x

    assert Other().method(3) == Other().method(3) == 3


def test_cloudpickle_takes_a_function_of_a_function_along() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")

    @volatile_cache(shared="test", name="by value")
    def double(x: int) -> int:
        return 2 * x

    assert double(3) == 6
    copy = cloudpickle.loads(cloudpickle.dumps(double))
    assert copy(3) == 6
    assert copy.cache_info().hits == 1, "by the same name"
    copy.cache.close()
