"""Where the two caches differ: each row of the table in docs/howto/shared.md."""

from __future__ import annotations

import math
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mvolatile as mv
from mvolatile import SharedCache, VolatileCache, VolatilityWarning, volatile_cache
from support.keepers import until

from .conftest import Factory
from .helpers import LARGE, later, purge

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "shared.md"


def test_the_table_is_there() -> None:
    """Whoever adds a row adds a test here, and counts it."""
    table = HOWTO.read_text().split("| | `VolatileCache` | `SharedCache` |\n|---|---|---|\n")[1]
    assert len(table.split("\n\n")[0].splitlines()) == 22


def test_what_a_hit_gives(cache: Any, kind: str) -> None:
    for value in (np.arange(5.0), np.arange(30_000.0)):
        cache["k"] = value
        found = cache["k"]
        assert found.flags.writeable == (kind != "private")
        if kind != "private":
            found[:] = 7
            assert np.array_equal(cache["k"], value)


class Key:
    """Which can be hashed."""


def test_keys(cache: Any, kind: str) -> None:
    for key in (Key(), object(), b"x" * 65_536, range(3), Decimal(1)):
        if kind == "private":
            cache[key] = 1
            assert cache[key] == 1
        else:
            with pytest.raises(TypeError if not isinstance(key, bytes) else ValueError):
                cache[key] = 1
            assert key not in cache
            assert (key, 1) not in cache.items()
    cache[int] = 1
    assert cache[int] == 1


def test_numbers_that_are_equal(cache: Any) -> None:
    cache[1] = "one"
    assert cache[1.0] == cache[True] == "one"
    cache[0.0, "x"] = "zero"
    assert cache[-0.0, "x"] == cache[False, "x"] == "zero"
    assert len(cache) == 2


def test_not_a_number(cache: Any, kind: str) -> None:
    one, other = float("nan"), float("nan")
    cache[one] = 1
    assert cache[one] == 1
    assert (other in cache) == (kind != "private")


@pytest.mark.parametrize("option", ["maxsize", "copy", "on_evict", "timer", "dump", "inherit"])
def test_options_that_only_one_has(option: str) -> None:
    given: dict[str, Any] = {
        "maxsize": 5,
        "copy": True,
        "on_evict": lambda key, why: None,
        "timer": lambda: 0.0,
        "dump": False,
        "inherit": False,
    }
    VolatileCache(**{option: given[option]}).close()
    with pytest.raises(TypeError, match=option):
        SharedCache("x", **{option: given[option]})
    with pytest.raises(TypeError, match="name"):
        SharedCache()  # type: ignore[call-arg]


def test_what_is_behind(cache_factory: Factory, kind: str) -> None:
    """Each has keys of its own there, and a private cache's changes have no order with another's."""
    behind: dict[str, Any] = {}
    cache = cache_factory(behind=behind)
    cache["k"] = bytes(LARGE)
    until(lambda: behind and not cache.cache_info().behind_waiting)
    purge(cache)
    with VolatileCache(behind=behind, name=cache.name) as other:
        assert other.get("k") == (bytes(LARGE) if kind == "private" else None)
    assert cache["k"] == bytes(LARGE)


def test_the_list_of_caches(cache: Any, kind: str) -> None:
    assert any(cache is one for one in mv.caches()) == (kind == "private")


def test_who_is_told_of_losses(cache_factory: Factory, kind: str) -> None:
    """The private cache names all; of the shared one who asks first is told."""
    told: list[Any] = []
    cache = cache_factory(on_lost=told.extend)
    for key in "abc":
        cache[key] = bytes(LARGE)
    purge(cache)
    assert cache.get("a") is None
    if kind == "private":
        assert cache.cache_info().purged == 3
        until(lambda: len(told) == 3)
        return
    another: list[Any] = []
    with SharedCache[Any, Any](cache.name, on_lost=another.extend) as other:
        assert other.get("b") is None
        until(lambda: another == ["b"])
        assert cache.cache_info().currsize == 0, "the keeper has looked: it cannot name what it found"
        assert other.get("c") is None
        assert cache.get("b") is None
        for _ in range(2):  # whoever was told of one more would be by then
            cache["d"] = other["e"] = bytes(LARGE)
            purge(cache)
            assert cache.get("d") is other.get("e") is None
            until(lambda: "d" in told and "e" in another)
    assert set(told) == {"a", "d"}
    assert set(another) == {"b", "e"}


def test_methods() -> None:
    class Repository:
        @volatile_cache
        def get(self, key: int) -> int:
            return key

    assert Repository().get(1) == 1
    with pytest.raises(TypeError, match="give key="):

        class Other:
            @volatile_cache(shared="x")
            def get(self, key: int) -> int:
                return key


def test_clear(cache_factory: Factory, kind: str) -> None:
    cache = cache_factory()
    cache["a"] = 1
    assert cache["a"] == 1
    cache.get("b")
    cache.clear()
    assert "a" not in cache
    assert cache.cache_info()[:2] == ((0, 0) if kind == "private" else (1, 1))
    if kind != "private":
        with SharedCache[Any, Any](cache.name) as other:
            other["a"] = 1
            cache.clear()
            assert "a" not in other


def test_close(cache_factory: Factory, kind: str) -> None:
    cache = cache_factory()
    cache["a"] = 1
    cache.close()
    assert "a" not in cache
    if kind != "private":
        with SharedCache[Any, Any](cache.name) as other:
            assert other["a"] == 1
        assert cache.delete_many("a") == 0
        cache.clear()
        with SharedCache[Any, Any](cache.name) as other:
            assert other["a"] == 1, "what is closed deletes nothing"


def test_copies(cache: Any, kind: str) -> None:
    import pickle

    cache["a"] = 1
    other = pickle.loads(pickle.dumps(cache))
    assert ("a" in other) == (kind != "private")
    other.close()


def test_times(cache_factory: Factory, kind: str) -> None:
    if kind == "private":
        cache = cache_factory(timer=lambda: 0.0)
        cache.set("k", 1, ttl=0.001)
        later(0.002)
        assert cache.ttl("k") == 0.001
    else:
        cache = cache_factory()
        cache.set("k", 1, ttl=0.001)
        later(0.002)
        assert cache.ttl("k") is None
    assert cache.ttl("never") is None
    cache["k"] = 1
    assert cache.ttl("k") == math.inf


def test_order(cache: Any, kind: str) -> None:
    cache.update({i: i for i in range(100)})
    if kind == "private":
        assert list(cache) == list(range(100))
        assert cache.popitem() == (99, 99)
    else:
        assert list(cache) != list(range(100))
        assert sorted(cache) == list(range(100))


def test_what_a_bound_counts(cache_factory: Factory, kind: str) -> None:
    cache = cache_factory(max_bytes=10_000)
    for i in range(20):
        cache["x" * 1000, i] = bytes(1000)
    assert len(cache) >= 9 if kind == "private" else len(cache) <= 4


def test_who_is_told_what_a_maker_raises(cache_factory: Factory, kind: str) -> None:
    """In one process all who wait are; another process makes its own."""
    if kind == "private":
        return
    cache = cache_factory()
    began, go = threading.Event(), threading.Event()

    def fail() -> int:
        began.set()
        go.wait(100)
        raise LookupError("no")

    with SharedCache[Any, Any](cache.name) as other:
        got: list[Any] = []

        def first() -> None:
            with pytest.raises(LookupError):
                cache.get_or_set("k", fail)

        one = threading.Thread(target=first)
        one.start()
        began.wait(100)
        two = threading.Thread(target=lambda: got.append(other.get_or_set("k", lambda: 2)))
        two.start()
        go.set()
        one.join()
        two.join()
        assert got == [2]


def test_where_nothing_can_be_kept(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "private":
        return
    monkeypatch.setenv("MVOLATILE_PYTHON", "/bin/false")
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with SharedCache[Any, Any]("nobody") as cache:
        with pytest.warns(VolatilityWarning, match="no keeper"):
            cache["k"] = 1
        assert cache.get("k") is None
        assert cache.get_or_set("k", lambda: 2) == 2
