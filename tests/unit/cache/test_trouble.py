"""Whatever keeps a cache from storing or reading, a function's value is returned, and it is told once."""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import VolatileCache, VolatilityWarning, volatile_cache
from mvolatile.cache.addresses import for_want_of_room
from mvolatile.cache.engine import engine_of
from mvolatile.cache.reading import Reading


def ways(make: Callable[[int], Any]) -> dict[str, tuple[VolatileCache[Any, Any], Callable[[int], Any]]]:
    async def amake(n: int) -> Any:
        return make(n)

    one, two = volatile_cache(make), volatile_cache(amake)
    cache: VolatileCache[Any, Any] = VolatileCache()
    return {
        "a function": (one.cache, one),
        "a coroutine function": (two.cache, lambda n: asyncio.run(two(n))),
        "get_or_set": (cache, lambda n: cache.get_or_set(n, lambda: make(n))),
        "aget_or_set": (cache, lambda n: asyncio.run(cache.aget_or_set(n, lambda: amake(n)))),
    }


WAYS = ["a function", "a coroutine function", "get_or_set", "aget_or_set"]
TROUBLES = [
    MemoryError(),
    OSError(12, "mmap: Cannot allocate memory"),
    RuntimeError("can't start new thread"),
    ImportError("no poll"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: type(trouble).__name__)
@pytest.mark.parametrize("where", ["new_memory", "lock"])
def test_what_the_cache_cannot_have(way: str, trouble: Exception, where: str) -> None:
    calls: list[int] = []

    def make(n: int) -> bytes:
        calls.append(n)
        return b"value"

    cache, ask = ways(make)[way]

    def refuse(*unused: Any) -> Any:
        raise copy.copy(trouble)  # it would keep the frames, and the cache, for the tests to come

    if where == "lock":
        engine_of(cache).change = refuse  # type: ignore[assignment]
    else:
        engine_of(cache).store.regions.new_memory = refuse
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [ask(1), ask(1), ask(2)] == [b"value"] * 3
    if where == "new_memory" and for_want_of_room(trouble):  # as if the kernel had taken it
        assert not told
    else:
        assert [one.category for one in told] == [VolatilityWarning], "once"
        assert "could not store or read" in str(told[0].message)
        assert told[0].filename == __file__ or "coroutine" in way or "aget" in way
    assert calls == [1, 1, 2]


@pytest.mark.parametrize("trouble", [MemoryError(), OSError(12, "madvise: Cannot allocate memory")])
@pytest.mark.parametrize("way", WAYS)
def test_what_there_is_no_memory_for_is_a_miss(
    way: str, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, ask = ways(lambda n: bytearray(b"value"))[way]
    ask(1)

    def refuse(*unused: Any) -> Any:
        raise copy.copy(trouble)  # it would keep the frames, and the cache, for the tests to come

    monkeypatch.setattr(Reading, "decoded", refuse)
    assert cache.get(1) is None
    assert ask(1) == b"value"


@pytest.mark.parametrize("trouble", [OSError(5, "madvise: Input/output error")])
@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_read_is_made(way: str, trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, ask = ways(lambda n: bytearray(b"value"))[way]
    ask(1)

    def refuse(*unused: Any) -> Any:
        raise copy.copy(trouble)  # it would keep the frames, and the cache, for the tests to come

    monkeypatch.setattr(Reading, "decoded", refuse)
    with pytest.warns(VolatilityWarning, match="could not store or read"):
        assert ask(1) == b"value"
    assert cache.cache_info()[:2] == (0, 2)


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_stored_is_returned(way: str) -> None:
    _, ask = ways(lambda n: lambda: n)[way]
    with pytest.warns(VolatilityWarning, match=r"cannot be cached: it does not pickle") as told:
        assert [ask(1)(), ask(1)()] == [1, 1]
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(1)() == 1, "told once"


def test_a_codec_that_fails() -> None:
    class Codec:
        def dumps(self, value: Any) -> bytes:
            raise LookupError("no such codec")

        def loads(self, data: bytes) -> Any: ...

    cached = volatile_cache(codec=Codec())(lambda n: n)
    with pytest.warns(VolatilityWarning, match="LookupError: no such codec"):
        assert cached(1) == 1
    with pytest.raises(LookupError):
        cached.cache["k"] = 1


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_cache_stores_nothing_and_says_nothing(way: str) -> None:
    cache, ask = ways(lambda n: n)[way]
    cache.close()
    assert [ask(1), ask(1)] == [1, 1]
    assert not cache


def test_what_the_program_gets_wrong_is_still_told() -> None:
    class Key:
        def __hash__(self) -> int:
            raise LookupError("no hash")

    cached = volatile_cache(lambda key: 1)
    with pytest.raises(LookupError, match="no hash"):
        cached(Key())
    with pytest.raises(TypeError, match="unhashable"):
        cached([])
