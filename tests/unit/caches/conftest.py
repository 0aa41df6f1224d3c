"""One suite for both caches: each test runs with a `VolatileCache`, with a `SharedCache` that reads by itself, and with
one that reads by messages. Where they differ `test_differences.py` has it, and the table in docs/howto/shared.md.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mvolatile import SharedCache, VolatileCache
from support.leaks import join_threads, stop_listening

Factory = Callable[..., Any]


@pytest.fixture(params=["private", "shared", "by message"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of cache."""
    if request.param == "by message":
        monkeypatch.setenv("MVOLATILE_SHARED_READ", "message")
    return str(request.param)


@pytest.fixture
def cache_factory(kind: str, _leaves_nothing: None) -> Iterator[Factory]:
    """Makes empty caches, each apart from the others. Their keepers stay for the next test."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        if kind == "private":
            made.append(VolatileCache(**options))
            return made[-1]
        cache: SharedCache[Any, Any] = SharedCache(f"contract-{len(made)}", **options)
        made.append(cache)
        cache.resize(options.get("max_bytes"))
        cache.clear()
        return cache

    yield make
    while made:
        made.pop().close()
    gc.collect()
    stop_listening()
    join_threads()


@pytest.fixture
def cache(cache_factory: Factory) -> Any:
    """With nothing set."""
    return cache_factory()
