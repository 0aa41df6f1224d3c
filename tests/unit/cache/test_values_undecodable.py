"""A value that can no longer be decoded is a miss: counted apart, told once, and gone."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache, VolatilityWarning, volatile_cache

from .helpers import seal

NAME = "stale_for_a_test"


class Sized:
    """Unpickles as what its module has today."""

    def __init__(self, size: int) -> None:
        self.data = bytes(size)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType(NAME)
    monkeypatch.setattr(Sized, "__module__", NAME)
    made.Sized = Sized  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, made)
    return made


@pytest.mark.parametrize("size", [1, 200_000])
@pytest.mark.parametrize("ttl", [None, 1000])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_class_that_is_gone(module: Any, size: int, ttl: float | None, sealed: bool) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(ttl=ttl)
    for key in "abcdefg":
        cache[key] = Sized(size)
    cache["whole"] = "whole"
    if sealed:
        seal(cache)
    del module.Sized
    with pytest.warns(
        VolatilityWarning, match=r"cannot be decoded, and is a miss. AttributeError: .*Sized"
    ) as told:
        assert cache.get("a", "default") == "default"
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        with pytest.raises(KeyError):
            cache["b"]
        assert cache.get_or_set("c", lambda: "anew") == cache["c"] == "anew"
        assert cache.pop("d", "default") == "default"
        with pytest.raises(KeyError):
            cache.popitem() and cache.popitem() and cache.popitem() and cache.popitem()
        assert list(cache.items()) == []
    info = cache.cache_info()
    assert info.undecodable == 7
    assert info.purged == 0
    assert len(cache) == 0
    cache["a"] = "stored again"
    assert cache["a"] == "stored again"
    cache.clear()
    assert cache.cache_info().undecodable == 0


def test_a_decorated_function_makes_it_anew(module: Any) -> None:
    made: list[int] = []

    @volatile_cache
    def compute(n: int) -> Any:
        made.append(n)
        return Sized(n) if len(made) == 1 else "of today"

    compute(5)
    del module.Sized
    with pytest.warns(VolatilityWarning, match="cannot be decoded"):
        assert compute(5) == "of today"
    assert compute(5) == "of today"
    assert made == [5, 5]
    assert compute.cache_info()[:2] == (1, 2)


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def dumps(self, value: Any) -> bytes:
        return b"data"

    def loads(self, data: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [KeyError("bad data"), OSError("file gone"), ImportError("no module")])
def test_a_codec_that_fails_is_heard(error: Exception) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(codec=Failing(error))
    cache["k"] = 1
    with pytest.warns(VolatilityWarning, match=type(error).__name__):
        assert cache.get("k") is None
    assert "k" not in cache


@pytest.mark.parametrize("error", [RecursionError(), KeyboardInterrupt()])
def test_what_may_go_well_another_time_is_raised_and_the_value_kept(error: BaseException) -> None:
    codec = Failing(error)
    cache: VolatileCache[str, Any] = VolatileCache(codec=codec)
    cache["k"] = 1
    with pytest.raises(type(error)):
        cache.get("k")
    assert "k" in cache
    assert cache.cache_info().undecodable == 0


def test_without_memory_to_decode_it_a_value_is_a_miss_and_counts_as_no_other() -> None:
    cache: VolatileCache[str, Any] = VolatileCache(codec=Failing(MemoryError()))
    cache["k"] = 1
    assert cache.get("k") is None
    assert cache.cache_info().undecodable == 0


def test_one_that_was_stored_meanwhile_stays(module: Any) -> None:
    """Bad schedule: a reader finds that it cannot decode, another stores a new value, the reader forgets the key."""
    cache: VolatileCache[str, Any] = VolatileCache()

    class Late:
        def dumps(self, value: Any) -> bytes:
            return str(value).encode()

        def loads(self, data: bytes) -> Any:
            if data == b"old":
                cache["k"] = "new"
                raise ValueError(data)
            return data.decode()

    cache = VolatileCache(codec=Late())
    cache["k"] = "old"
    with pytest.warns(VolatilityWarning):
        assert cache.get("k") is None
    assert cache["k"] == "new"
    assert cache.cache_info().undecodable == 0


def test_the_numbers_of_a_hit_that_failed_are_let_go(module: Any) -> None:
    """No exception keeps what was being made, and with it a pin."""
    cache: VolatileCache[str, Any] = VolatileCache(copy=False)
    cache["k"] = [np.zeros(50_000), Sized(1)]
    seal(cache)
    del module.Sized
    with pytest.warns(VolatilityWarning):
        assert cache.get("k") is None
    assert cache.cache_info().pinned_bytes == 0
