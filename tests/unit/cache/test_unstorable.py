"""`unstorable`: what becomes of a made value that cannot be stored."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache, TooLargeError, VolatileCache, VolatilityWarning, volatile_cache
from support.keepers import end_keepers


@pytest.fixture(params=["private", "shared"])
def cache_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Any] = []
    directory = tempfile.mkdtemp(prefix="mv")
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", directory)

    def make(**options: Any) -> Any:
        kind = VolatileCache if request.param == "private" else SharedCache
        cache: Any = kind(name=f"unstorable-{len(made)}", **options)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()
    end_keepers(Path(directory))
    shutil.rmtree(directory)


def test_it_is_returned_and_told(cache_of: Any) -> None:
    cache = cache_of()
    with pytest.warns(VolatilityWarning, match="generator"):
        assert next(cache.get_or_set("k", lambda: (n for n in [5]))) == 5
    assert "k" not in cache


def test_it_is_returned_and_nothing_is_said(cache_of: Any) -> None:
    cache = cache_of(unstorable="return", max_bytes=1 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(cache.get_or_set("k", lambda: (n for n in [5]))) == 5
        assert len(cache.get_or_set("l", lambda: bytes(2 << 20))) == 2 << 20
    assert not list(cache)
    with pytest.raises(TypeError):
        cache["k"] = (n for n in [5])


def test_it_is_an_error(cache_of: Any) -> None:
    cache = cache_of(unstorable="raise", max_bytes=1 << 20)
    with pytest.raises(TypeError):
        cache.get_or_set("k", lambda: (n for n in [5]))
    with pytest.raises(TooLargeError):
        cache.get_or_set("l", lambda: bytes(2 << 20))
    assert cache.get_or_set("k", lambda: 5) == 5


def test_the_decorator() -> None:
    @volatile_cache(unstorable="return")
    def f(n: int) -> Any:
        return iter([n])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(f(1)) == 1
    with pytest.raises(ValueError, match="unstorable must be"):
        volatile_cache(unstorable="no")(len)  # type: ignore[call-overload]
