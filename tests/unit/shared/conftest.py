"""Each test has a directory of sockets of its own, and every keeper in it is gone when the test ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache
from support.leaks import join_threads
from support.mappings import Behind


@pytest.fixture
def make(runtime: Path, _leaves_nothing: None) -> Iterator[Callable[..., SharedCache[Any, Any]]]:
    """Makes caches, and closes them."""
    made: list[SharedCache[Any, Any]] = []

    def make_one(name: str = "test", **options: Any) -> SharedCache[Any, Any]:
        made.append(SharedCache(name, **options))
        return made[-1]

    yield make_one
    for one in made:
        one.close()
    made.clear()
    gc.collect()
    join_threads()


@pytest.fixture(params=["readv", "message"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How values come: for tests that are to pass both ways."""
    monkeypatch.setenv("MVOLATILE_SHARED_READ", request.param)
    return str(request.param)


@pytest.fixture
def cache(make: Callable[..., SharedCache[Any, Any]]) -> SharedCache[Any, Any]:
    """One with a keeper of its own."""
    return make()


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def client(
    make: Callable[..., SharedCache[Any, Any]], behind: Behind
) -> Callable[..., SharedCache[Any, Any]]:
    """Each is a client of one keeper, as processes are, with the same mapping behind."""
    return lambda **options: make(**{"behind": behind, **options})
