"""What a cache does with a mapping behind it, while that works."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import threading
import time
from typing import Any

import pytest
import trio

import mvolatile
from mvolatile import VolatileCache, VolatilityWarning, volatile_cache
from mvolatile.cache.behind import writer
from mvolatile.cache.cost import UNKNOWN, class_of
from mvolatile.cache.engine import engine_of

from ..helpers import is_valid, purge
from .mappings import Behind, kinds, written

VALUES = {
    "bytes": b"some bytes",
    "nothing": b"",
    "text": "text \udcff",
    "large": bytes(range(256)) * 400,
    "array": bytearray(b"x" * 50),
    "object": {"a": [1, 2.5, None]},
    "view": memoryview(b"view"),
}


@pytest.fixture(params=["back", "through"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def make(behind: Behind, mode: str) -> Any:
    def make(**options: Any) -> VolatileCache[Any, Any]:
        return VolatileCache(**{"behind": behind, "behind_mode": mode, **options})

    return make


def test_what_was_stored_is_there_after_a_restart(make: Any) -> None:
    with make() as cache:
        for key, value in VALUES.items():
            cache[key] = value
        cache["one", 2, None, 2.5, frozenset([1])] = b"key"
    with make() as cache:
        assert len(cache) == 0
        for key, value in VALUES.items():
            assert cache[key] == value
            assert type(cache[key]) is type(value)
        assert cache.get(("one", 2.0, None, 2.5, frozenset([True]))) == b"key"
        assert cache.get("another") is None
        info = cache.cache_info()
        assert (info.behind_hits, info.hits, info.misses) == (len(VALUES) + 1, 2 * len(VALUES) + 1, 1)
        assert len(cache) == len(VALUES) + 1
        is_valid(cache)


def test_arrays_come_back_as_they_were(make: Any) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = {"small": numpy.arange(10), "large": numpy.arange(100_000.0).reshape(100, -1).T}
    with make() as cache:
        for key, value in arrays.items():
            cache[key] = value
            cache["in", key] = {"it": value}
    with make() as cache:
        for key, value in arrays.items():
            for _ in range(2):
                assert (cache[key] == value).all()
                assert cache[key].strides == value.strides
                assert not cache[key].flags.writeable
                assert cache["in", key]["it"].flags.writeable


def test_what_the_kernel_took_is_read_behind_and_not_made(make: Any) -> None:
    cache = make()
    made = []

    def factory() -> bytes:
        made.append(1)
        return bytes(100)

    assert cache.get_or_set("k", factory) == bytes(100)
    written(cache)
    purge(cache)
    assert cache.get_or_set("k", factory) == bytes(100)
    purge(cache)
    assert asyncio.run(cache.aget_or_set("k", factory)) == bytes(100)
    purge(cache)
    assert trio.run(cache.aget_or_set, "k", factory) == bytes(100)
    assert len(made) == 1
    assert cache.cache_info().behind_hits == 3
    cache.close()


def test_it_is_asked_once_for_all_who_miss(make: Any, behind: Behind) -> None:
    cache = make()
    cache["k"] = b"v"
    written(cache)
    purge(cache)
    came, go = behind.stop("get")
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(cache.get_or_set("k", lambda: b"made"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    assert came.wait(60)
    while len(engine_of(cache).calls["k"].waiters) < 4:
        pass
    go.set()
    for thread in threads:
        thread.join(60)
    assert got == [b"v"] * 5
    assert kinds(behind).count("get") == 1
    cache.close()


def test_what_is_deleted_is_deleted_there(make: Any, behind: Behind) -> None:
    cache = make()
    for key in ("deleted", "popped", "many", "lost", "replaced", "large"):
        cache[key] = b"v"
    written(cache)
    assert len(behind) == 6
    del cache["deleted"]
    assert cache.pop("popped") == b"v"
    purge(cache)
    assert cache.delete_many(["many", "no such"]) == 1, "it was there, if not in memory"
    with pytest.raises(KeyError):
        del cache["many"]
    assert cache.pop("lost") == b"v"
    cache.set("replaced", b"w", ttl=0)
    written(cache)
    assert len(behind) == 1
    cache.clear()
    written(cache)
    assert not behind
    cache.close()


def test_clear_leaves_what_is_others(behind: Behind, mode: str) -> None:
    behind["mine"] = b"not a cache's"
    one: VolatileCache[str, bytes] = VolatileCache(behind=behind, behind_mode=mode, name="one")  # type: ignore[arg-type]
    other: VolatileCache[str, bytes] = VolatileCache(behind=behind, behind_mode=mode, name="other")  # type: ignore[arg-type]
    one["k"], other["k"] = b"1", b"2"
    written(one)
    written(other)
    one.clear()
    written(one)
    purge(other)
    assert other["k"] == b"2"
    assert "k" not in one
    assert behind["mine"] == b"not a cache's"
    one.close()
    other.close()


def test_times_to_live(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    clock = {"timer": lambda: now}
    with make(ttl=10, **clock) as cache:
        cache["k"] = b"v"
        cache.set("ever", b"v", ttl=math.inf)
        cache.set("touched", bytes(100_000), ttl=1)
        assert cache.touch("touched", 1000)
    with make(**clock) as cache:
        left = cache.ttl("k")
        assert left is not None
        assert 0 < left <= 10
        assert cache.ttl("ever") == math.inf
        assert cache.ttl("touched") > 900
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 50)
    with make(**clock) as cache:
        assert cache.get("k") is None
        assert "k" not in cache
        assert sorted(key for key in ("k", "ever", "touched") if key in cache) == ["ever", "touched"]


def test_the_verbs_see_what_is_behind(make: Any) -> None:
    with make() as cache:
        cache["n"], cache["k"] = 5, b"v"
    with make() as cache:
        assert not cache.add("k", b"w")
        assert cache.incr("n") == 6
        assert cache.get_many(["k", "n", "x"]) == {"k": b"v", "n": 6}
        assert "k" in cache
        assert cache.setdefault("k", b"w") == b"v"
    with make() as cache:
        assert "n" in cache
        assert len(cache) == 0, "to ask whether it is there brings nothing"
        assert list(cache) == []
        assert cache["n"] == 6
        assert cache.add("new", 1)
        assert not cache.touch("no such", 5)
        assert cache.pop("new") == 1
    with make() as cache:
        assert "new" not in cache


def test_the_decorator(behind: Behind, mode: Any) -> None:
    made = []

    def decorated() -> Any:
        @volatile_cache(behind=behind, behind_mode=mode, name="f")
        def f(n: int, *, more: bool = False) -> tuple[int, bool]:
            made.append(n)
            return n, more

        @volatile_cache(behind=behind, behind_mode=mode, name="g")
        async def g(n: int) -> str:
            made.append(n)
            return f"g{n}"

        return f, g

    for _ in range(2):
        f, g = decorated()
        assert f(1) == (1, False)
        assert f(1, more=True) == (1, True)
        assert asyncio.run(g(1)) == "g1"
        f.cache.close()
        g.cache.close()
    assert len(made) == 3
    f, _ = decorated()
    assert f.cache_delete(1)
    assert f(1) == (1, False)
    assert len(made) == 4
    f.cache.close()

    with pytest.raises(TypeError, match="give key="):

        @volatile_cache(behind=behind)
        def method(self: Any) -> int:
            return 1


def test_keys_that_mean_nothing_to_others_stay_in_memory(make: Any, behind: Behind) -> None:
    cache = make()
    key = object()
    with pytest.warns(VolatilityWarning, match="stays in memory alone"):
        cache[key] = b"v"
    written(cache)
    assert not behind
    assert cache[key] == b"v"
    del cache[key]
    assert cache.get(key) is None
    assert cache.get_or_set(key, lambda: b"w") == b"w"
    cache.close()


def test_a_codec_is_given_what_it_made_and_nothing_else(make: Any, behind: Behind) -> None:
    with make() as cache:
        cache["pickled"] = [1]
    with make(codec=json) as cache:
        with pytest.warns(VolatilityWarning, match="no record of this key"):
            assert cache.get("pickled") is None
        cache["coded"] = [1, 2]
        written(cache)
        purge(cache)
        assert cache["coded"] == [1, 2]
    with make() as cache, pytest.warns(VolatilityWarning):
        assert cache.get("coded") is None


def test_what_is_too_large_for_memory_is_not_kept_behind(make: Any, behind: Behind) -> None:
    with make() as cache:
        cache["k"] = bytes(1000)
    with make(max_bytes=500) as cache:
        assert cache["k"] == bytes(1000), "it is read, and not stored"
        assert cache.get_or_set("k", lambda: b"made") == bytes(1000)
        with pytest.raises(mvolatile.TooLargeError):
            cache["k"] = bytes(2000)
        assert cache.get("k") is None
    assert not behind


def test_closed_and_copied(make: Any, behind: Behind) -> None:
    cache = make()
    cache["k"] = b"v"
    cache.close()
    cache.close()
    assert cache.get("k") is None
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: b"made") == b"made"
    with pytest.raises(ValueError, match="nothing can be stored"):
        cache["k"] = b"w"
    assert len(behind) == 1
    other = copy.copy(make())
    assert other["k"] == b"v"
    other.close()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(make(on_evict=lambda key, why: None))


def test_a_mapping_that_hands_other_attributes_on(mode: Any) -> None:
    class Shards(Behind):
        """As `diskcache.FanoutCache`."""

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"cannot access {name} in cache shard")

    behind = Shards()
    with VolatileCache(behind=behind, behind_mode=mode) as cache:
        cache["k"] = b"v"
    with VolatileCache(behind=behind, behind_mode=mode) as cache:
        assert cache["k"] == b"v"
        cache.clear()
    assert not behind


def test_wrong_arguments(behind: Behind) -> None:
    with pytest.raises(TypeError, match="behind must be a mutable mapping"):
        VolatileCache(behind=5)  # type: ignore[arg-type]

    class Client:
        """Of redis-py or pymemcache."""

        __getitem__ = __setitem__ = __delitem__ = len

    with pytest.raises(TypeError, match="makes one of a client of Redis or memcached"):
        VolatileCache(behind=Client())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="behind_mode must be"):
        VolatileCache(behind=behind, behind_mode="both")  # type: ignore[arg-type]
    cache: VolatileCache[str, bytes] = VolatileCache(behind=behind)
    with pytest.raises(ValueError, match="has no tags"):
        cache.set("k", b"v", tag="t")
    with pytest.raises(ValueError, match="has no tags"):
        volatile_cache(behind=behind, tag="t")(len)


def test_what_a_value_cost_goes_along(make: Any, behind: Behind) -> None:
    with make() as cache:
        cache.set("dear", b"v", cost=2.0)
        cache["unknown"] = b"v"
    with make() as cache:
        for key, cost in (("dear", class_of(2.0)), ("unknown", UNKNOWN)):
            assert cache[key] == b"v"
            entry = engine_of(cache).reading.look(key)
            assert entry is not None
            assert entry.region.cost(entry.slot) == cost


def test_one_thread_writes_as_long_as_more_comes(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LINGER", 600.0)
    threads = set()
    behind.before = lambda what, key: threads.add(threading.get_ident())
    cache: VolatileCache[Any, Any] = VolatileCache(behind=behind)
    tier = engine_of(cache).tier
    assert tier is not None
    for turn in range(200):
        for n in range(3):  # all call for the thread, which writes them at once
            cache[turn, n] = b"v"
        while len(tier.pending):
            time.sleep(0)
    cache.close()
    assert len(behind) == 600
    assert len(threads) == 1
