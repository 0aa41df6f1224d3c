"""Looking whether a value is there: iteration and `in` copy none, and are not wrong about one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mvolatile import VolatileCache, features, testing
from mvolatile.cache.engine import engine_of
from mvolatile.cache.store import Segment

from .helpers import in_child, is_valid, purge, seal

PAGE = 4096

exact = pytest.mark.skipif(not features().can_trap, reason="where nothing traps, looking needs a hold")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def filled(clock: Clock, size: int) -> VolatileCache[int, bytes]:
    cache: VolatileCache[int, bytes] = VolatileCache(timer=clock)
    for key in range(40):
        cache.set(key, bytes([key + 1]) * size, ttl=10 if key % 2 else None)
    return cache


@exact
@pytest.mark.parametrize("size", [0, 1, 8, 9, 5000, 13_000, 70_000])
@pytest.mark.parametrize("sealed", [False, True])
def test_looking_copies_nothing(size: int, sealed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    cache = filled(clock, size)
    if sealed:
        seal(cache)

    def fetch(segment: Segment, slot: int) -> bytes:
        raise AssertionError("a value was copied")

    monkeypatch.setattr(Segment, "read", fetch)
    assert list(cache) == list(cache.keys()) == list(range(40))
    assert cache.ttl(0) == float("inf")
    assert cache.ttl(1) == 10
    clock.now = 10
    assert list(cache) == list(range(0, 40, 2))
    monkeypatch.undo()
    assert cache.cache_info()[:2] == (0, 0)


@pytest.mark.parametrize("size", [9, 5000, 13_000])
def test_each_page_of_a_value_is_looked_at(size: int) -> None:
    """Values that lie across pages: whichever page is lost, those that had a part of it are gone and no others."""
    if not features().can_purge:
        pytest.skip("nothing can be lost here")
    for page in range(8):
        cache = filled(Clock(), size)
        seal(cache)
        segments = [each for each in engine_of(cache).store.regions.values() if isinstance(each, Segment)]
        first = min(segments, key=lambda segment: segment.number)
        gone = set()
        for slot, key in enumerate(first.keys):
            at, n = first.table.bounds(slot)
            if at < (page + 1) * PAGE and at + n > page * PAGE:
                gone.add(key)
        testing.purge(first.memory, [(page * PAGE, PAGE)])
        assert set(range(40)) - set(cache) == gone
        assert cache.cache_info().purged == len(gone)
        is_valid(cache)


def test_looking_in_a_child() -> None:
    cache = filled(Clock(), 5000)

    def child() -> None:
        assert list(cache) == list(range(40))
        purge(cache)  # but for what the parent shares
        assert all(cache[key] == bytes([key + 1]) * 5000 for key in list(cache))

    in_child(child)
    assert list(cache) == list(range(40))
    seal(cache)
    in_child(child)


def test_of_all_who_delete_a_value_one_did() -> None:
    cache: VolatileCache[int, int] = VolatileCache()
    counted: list[int] = []
    gate = threading.Barrier(4)

    def delete(ours: int) -> None:
        for _ in range(200):
            gate.wait()
            if ours == 0:
                cache.update({key: key for key in range(20)})
            gate.wait()
            counted.append(cache.delete_many(range(20)))
            gate.wait()

    threads = [threading.Thread(target=delete, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counted) == 200 * 20


class Dies:
    def __init__(self, asks: Any) -> None:
        self.asks = asks

    def __del__(self) -> None:
        self.asks()


def test_a_finalizer_deletes_in_the_middle_of_a_change() -> None:
    cache: VolatileCache[Any, int] = VolatileCache()
    answers = []
    cache["k"] = 1
    cache[Dies(lambda: answers.append(cache.delete_many(["k", "none"])))] = 2
    cache.clear()
    assert answers == [0] or answers == [1]
    assert "k" not in cache


def test_many_where_one_fails() -> None:
    cache: VolatileCache[Any, Any] = VolatileCache()
    with pytest.raises(TypeError):
        cache.set_many({"a": 1, "b": lambda: 0, "c": 3})
    assert list(cache) == ["a"]
    cache.update(b=2, c=3)
    with pytest.raises(TypeError):
        cache.delete_many(["a", [], "c"])
    assert list(cache) == ["b", "c"]
    with pytest.raises(TypeError):
        cache.get_many(["b", []])
    assert cache.get_many(["c", "none", "b", "c"]) == {"c": 3, "b": 2}
    assert list(cache.get_many(["c", "none", "b"])) == ["c", "b"]
