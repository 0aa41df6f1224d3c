"""`on_evict`: each key that leaves is told once, with why, outside of any lock, whatever the callback raises."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache.engine import engine_of

from .helpers import in_child, is_valid, purge, told

LARGE = 100_000


class Told:
    """What a cache has told."""

    def __init__(self, **options: Any) -> None:
        self.all: list[tuple[Any, str]] = []
        self.now = 0.0
        self.cache: VolatileCache[Any, Any] = VolatileCache(
            on_evict=lambda key, why: self.all.append((key, why)), timer=lambda: self.now, **options
        )

    def __call__(self) -> list[tuple[Any, str]]:
        told(self.cache)
        answer, self.all = self.all, []
        return answer


@pytest.mark.parametrize("size", [10, LARGE])
def test_every_way_to_leave(size: int) -> None:
    events = Told(maxsize=2, ttl=10)
    cache = events.cache
    for n in range(5):
        cache[n] = bytes(size)
    left = {key for key, why in events() if why == "evicted"}
    (other,) = {0, 1, 2, 3} - left
    cache[4] = b"another"
    assert events() == [(4, "replaced")]
    del cache[4]
    assert cache.pop(other) == bytes(size)
    assert events() == [(4, "deleted"), (other, "deleted")]
    cache["a"] = bytes(size)
    cache["b"] = bytes(size)
    events.now += 11
    assert cache.get("a") is None
    assert "b" not in cache
    assert events() == [("a", "expired"), ("b", "expired")]
    cache["c"] = bytes(size)
    cache.set("c", b"never stored", ttl=0)
    assert events() == [("c", "replaced")]
    cache["d"] = bytes(size)
    purge(cache)
    assert cache.get("d") is None
    assert events() == [("d", "purged")]
    cache["e"] = cache["f"] = bytes(size)
    cache.clear()
    assert sorted(events()) == [("e", "cleared"), ("f", "cleared")]
    cache["g"] = bytes(size)
    cache.close()
    assert events() == [("g", "cleared")]
    cache.close()
    assert events() == []


def test_nothing_is_told_of_what_was_not_there() -> None:
    events = Told()
    events.cache.pop("k", None)
    with pytest.raises(KeyError):
        del events.cache["k"]
    events.cache["k"] = 1
    assert events.cache.get_or_set("k", lambda: 2) == 1
    assert events.cache.touch("k", 5)
    assert not events.cache.add("k", 3)
    assert events() == []


def test_to_touch_is_no_departure_and_what_is_swept_is_told() -> None:
    events = Told()
    cache = events.cache
    for n in range(50):
        cache.set(n, b"v" * n, ttl=5)
        assert cache.touch(n, 6)
    assert events() == []
    events.now = 7
    for n in range(100, 400):
        cache[n] = b"new"
    assert sorted(events()) == [(n, "expired") for n in range(50)]
    is_valid(cache)


@pytest.mark.parametrize("bound", [{"max_bytes": 200_000}, {"maxsize": 300}, {}])
def test_each_that_entered_is_there_or_was_told(bound: dict[str, int]) -> None:
    events = Told(**bound)
    cache, entered = events.cache, Counter[int]()
    for step in range(6000):
        key = step * 7919 % 1500
        cache[key] = bytes(step % 400)
        entered[key] += 1
        if step % 5 == 0:
            cache.pop(key // 2, None)
        if step % 500 == 499:
            purge(cache)
    cache.cache_info()
    left = Counter(key for key, _ in events())
    assert left + Counter(list(cache)) == entered
    is_valid(cache)


def test_a_key_that_was_lost_unseen_and_replaced_then() -> None:
    events = Told()
    cache = events.cache
    cache["k"], cache["l"] = b"v", b"w"
    purge(cache)
    assert cache.get("l") is None
    cache["k"] = b"again"
    assert sorted(events()) == [("k", "purged"), ("l", "purged")]
    assert cache.cache_info().purged == 2


def test_the_object_of_a_method_goes() -> None:
    class Thing:
        @volatile_cache
        def value(self) -> bytes:
            return b"v"

    cache, events = Thing.value.cache, Told()
    engine, other = engine_of(cache), engine_of(events.cache)
    engine.departures, engine.store.tell = other.departures, other.tell
    thing = Thing()
    assert thing.value() == b"v"
    del thing
    gc.collect()
    for n in range(100):
        cache[n] = 1
    assert [why for _, why in events()] == ["orphaned"]


def test_a_callback_that_raises_is_told_of_and_the_rest_is_told_all_the_same() -> None:
    seen: list[Any] = []
    raised: list[Any] = []
    before, threading.excepthook = threading.excepthook, lambda args: raised.append(args.exc_value)
    try:

        def on_evict(key: Any, why: str) -> None:
            seen.append((key, why))
            if key % 2:
                raise RuntimeError(key)

        cache: VolatileCache[int, int] = VolatileCache(on_evict=on_evict)
        cache.update({n: n for n in range(10)})
        cache.clear()
        told(cache)
    finally:
        threading.excepthook = before
    assert sorted(seen) == [(n, "cleared") for n in range(10)]
    assert sorted(error.args[0] for error in raised) == [1, 3, 5, 7, 9]


def test_a_callback_may_use_the_cache_and_both_callbacks_are_called() -> None:
    lost: list[Any] = []
    again: list[Any] = []
    done = threading.Event()

    def on_evict(key: Any, why: str) -> None:
        if why == "purged":
            again.append(cache.get_or_set(key, lambda: b"again"))
            done.set()

    cache: VolatileCache[Any, bytes] = VolatileCache(on_lost=lost.extend, on_evict=on_evict)
    cache["k"] = b"v"
    purge(cache)
    assert cache.get("k") is None
    assert done.wait(60)
    told(cache)
    assert again == [b"again"]
    assert lost == ["k"]
    assert cache["k"] == b"again"


def test_a_child_tells_of_its_own() -> None:
    events = Told(inherit=False)
    events.cache["k"] = 1

    def child() -> None:
        assert events() == [], "the parent's values did not leave"
        events.cache["l"] = 1
        del events.cache["l"]
        assert events() == [("l", "deleted")]

    in_child(child)
    assert events() == []


def test_it_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_evict must be callable"):
        VolatileCache(on_evict=5)  # type: ignore[arg-type]
