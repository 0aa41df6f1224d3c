"""`SharedCache` as its users see it, by `process_vm_readv` and by messages."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, MutableMapping
from random import Random
from typing import Any

import pytest

from mvolatile import SharedCache, VolatilityWarning
from mvolatile.cache import Compressed
from support.keepers import keeper_pid, until

Cache = SharedCache[Any, Any]
Make = Callable[..., Cache]
pytestmark = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("seed", range(2))
def test_it_does_what_a_dict_does(cache: Cache, make: Make, seed: int) -> None:
    random = Random(seed)
    other = make()
    model: dict[Any, Any] = {}
    assert isinstance(cache, MutableMapping)
    for _ in range(1500):
        key = random.choice([1, "a", b"b", None, (1, "x"), 2.5, frozenset([1])]), random.randrange(20)
        one = random.choice([cache, other])
        what = random.randrange(8)
        if what < 4:
            size = random.choice([0, 5, 500, 5000, 50_000, 200_000])
            value = random.choice([random.randbytes(size), "é" * size, [size, {"a": None}], bytearray(size)])
            one[key] = model[key] = value
        elif what == 4:
            assert one.pop(key, "gone") == model.pop(key, "gone")
        elif what == 5:
            assert (key in one) == (key in model)
        elif what == 6:
            assert one.get(key, "none") == model.get(key, "none")
        else:
            if key in model:
                del one[key], model[key]
            else:
                with pytest.raises(KeyError):
                    del one[key]
    assert dict(cache.items()) == model == dict(other)
    assert len(cache) == len(model)
    assert sorted(map(repr, cache.values())) == sorted(map(repr, model.values()))
    while model:
        key, value = other.popitem()
        assert model.pop(key) == value
    with pytest.raises(KeyError, match="empty"):
        cache.popitem()
    assert list(cache) == []


def test_what_comes_back_is_ones_own(cache: Cache) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(100_000.0).reshape(100, 1000)
    values = [
        array,
        array[::2, 5:50],
        array.T,
        {"a": array},
        np.array(5),
        np.array([], "i4"),
        bytearray(b"abc"),
        memoryview(b"abc"),
        None,
        3.5,
    ]
    for i, value in enumerate(values):
        cache[i] = value
        back = cache[i]
        assert type(back) is type(value)
        if isinstance(value, np.ndarray):
            assert back.flags.writeable
            assert (back == value).all()
            assert (back.dtype, back.shape) == (value.dtype, value.shape)
            back[...] = 7
            assert (cache[i] == value).all()
    inner = cache[3]["a"]
    inner[:] = 0
    assert (cache[3]["a"] == array).all()
    assert cache[6] == b"abc"
    assert bytes(cache[7]) == b"abc"


def test_verbs(cache: Cache, make: Make) -> None:
    other = make()
    assert cache.add("a", 1)
    assert not other.add("a", 2)
    assert cache["a"] == 1
    with pytest.raises(KeyError):
        cache.incr("n")
    assert cache.incr("n", 5, default=10) == 15
    assert other.decr("n", 2) == 13
    cache.set("n", 1, ttl=1000)
    assert cache.incr("n") == 2
    assert (cache.ttl("n") or 0) < math.inf
    cache.set_many({"x": 1, "y": 2})
    other.set_many([("z", 3)])
    assert cache.get_many("xyzw") == {"x": 1, "y": 2, "z": 3}
    assert cache.delete_many("xyw") == 2
    assert cache.setdefault("x", 5) == 5
    assert other.setdefault("x", 6) == 5
    cache.update({"u": 1}, v=2)
    assert other["v"] == 2
    cache.clear()
    assert len(other) == 0
    assert other.get("v") is None
    with pytest.raises(TypeError, match="a key of type"):
        cache.get([])
    with pytest.raises(TypeError, match="a key of type"):
        cache[object()] = 1
    with pytest.raises(TypeError, match="does not pickle"):
        cache["a"] = lambda: 0


def test_codecs(make: Make) -> None:
    cache = make("coded", codec=Compressed())
    cache["a"] = ["x"] * 10_000
    assert cache["a"] == ["x"] * 10_000
    assert cache.cache_info().bytes < 5000
    other = make("coded")
    with pytest.warns(VolatilityWarning, match="codec"):
        assert other.get("a") is None
    assert other.cache_info().undecodable == 1
    text = make("text", codec=json)
    text["a"] = {"b": [1, None]}
    assert text["a"] == {"b": [1, None]}


def test_purged_is_a_miss_and_told(make: Make) -> None:
    told: list[Any] = []
    cache = make(on_lost=told.extend)
    for i in range(20):
        cache[i] = bytes(100_000)
    assert cache.purge() >= 2_000_000
    assert all(cache.get(i) is None for i in range(20))
    assert list(cache) == []
    assert not any(i in cache for i in range(20))
    if cache._access.connections.by_message is False:
        until(lambda: len(told) == 20)
        assert sorted(told) == list(range(20))
    assert cache.get_or_set(3, lambda: b"again") == b"again"
    assert cache[3] == b"again"
    assert cache.cache_info().purged >= 1


def test_statistics(cache: Cache) -> None:
    cache["a"] = 1
    for key in "aab":
        cache.get(key)
    info = cache.cache_info()
    if not cache._access.connections.by_message:
        assert (info.hits, info.misses, info.currsize) == (2, 1, 1)
    assert info.overhead > 0
    told = cache.keeper_info()
    assert told["clients"] == 1
    assert told["pid"] == keeper_pid("test")


def test_it_pickles_by_name(make: Make) -> None:
    cache = make(ttl=1000, codec=pickle)
    cache["a"] = 1
    other = pickle.loads(pickle.dumps(cache))
    assert other["a"] == 1
    assert other.ttl("a") <= 1000
    other["b"] = 2
    assert cache["b"] == 2
    other.close()
    assert cache == cache != other
    assert repr(cache) == "<SharedCache 'test': shared>"
