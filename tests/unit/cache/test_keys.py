"""Keys that misbehave: what they raise is told to who used them, and costs no other key anything."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of

from .helpers import is_valid

MANY = 20_000  # the index splits


class Key:
    """A key that can be told to misbehave."""

    bad_hash = bad_eq = False
    during: Any = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        if self.bad_hash:
            raise RuntimeError("hash")
        return self.number % 500

    def __eq__(self, other: object) -> bool:
        if self.bad_eq or (isinstance(other, Key) and other.bad_eq):
            raise RuntimeError("eq")
        if Key.during is not None:
            during, Key.during = Key.during, None
            during()
        return isinstance(other, Key) and other.number == self.number


def test_a_key_whose_hash_fails_later() -> None:
    cache: VolatileCache[Any, Any] = VolatileCache()
    keys = [Key(n) for n in range(20)]
    for key in keys:
        cache[key] = key.number
    for key in keys:
        key.bad_hash = True
    for n in range(MANY):
        cache[n] = n
    assert all(cache[n] == n for n in range(MANY))
    with pytest.raises(RuntimeError, match="hash"):
        cache.get(keys[0])
    for n in range(MANY):
        del cache[n]
    for key in keys:
        key.bad_hash = False
    assert all(cache.get(key) in (None, key.number) for key in keys)
    is_valid(cache)


@pytest.mark.parametrize("bounds", [{}, {"maxsize": 30}, {"max_bytes": 3000}])
def test_a_comparison_that_fails_now_and_then(bounds: Any) -> None:
    rng = random.Random(1)
    cache: VolatileCache[Any, bytes] = VolatileCache(**bounds)
    keys = [Key(n * 250) for n in range(60)]  # two hashes: comparisons all the time
    raised = 0
    for _ in range(3000):
        key = rng.choice(keys)
        key.bad_eq = rng.random() < 0.1
        another = rng.choice(keys)
        try:
            if rng.random() < 0.5:
                cache[another] = b"%d" % another.number * 20
            elif rng.random() < 0.2:
                cache.pop(another, None)
            assert cache.get(another) in (None, b"%d" % another.number * 20)
        except RuntimeError:
            raised += 1
        finally:
            key.bad_eq = False
    assert raised
    assert all(value == b"%d" % key.number * 20 for key, value in cache.items())
    cache["plain"] = b"plain"
    assert cache["plain"] == b"plain"
    is_valid(cache)


@pytest.mark.parametrize("what", ["set", "delete", "clear", "incr", "touch", "add"])
def test_a_comparison_that_uses_the_cache(what: str) -> None:
    cache: VolatileCache[Any, Any] = VolatileCache(maxsize=50)
    for n in range(50):
        cache[Key(n)] = n
        cache["other"] = 5
        Key.during = {
            "set": lambda: cache.update({"other": 6}),
            "delete": lambda: cache.pop("other", None),
            "clear": cache.clear,
            "incr": lambda: cache.incr("other", default=1),
            "touch": lambda: cache.touch("other", 1),
            "add": lambda: cache.add("other", 7),
        }[what]
        cache[Key(n)] = n  # compared with the first
        Key.during = None
        assert cache.get(Key(n)) in (n, None if what == "clear" else n)
        assert cache.get("other") in (5, 6, 7, None, 1, 2)
        assert len(cache) <= 50
    is_valid(cache)


def test_a_value_that_uses_the_cache_while_it_is_pickled() -> None:
    cache: VolatileCache[str, Any] = VolatileCache(maxsize=10)

    class Value:
        def __reduce__(self) -> Any:
            cache["k"] = "inner"
            cache.pop("l", None)
            return str, ("outer",)

    cache["k"] = Value()
    assert cache["k"] == "outer"
    assert cache.add("l", Value())
    assert cache["l"] == "outer"
    is_valid(cache)


@pytest.mark.parametrize("bounds", [{"maxsize": 3}, {"max_bytes": 300}])
def test_a_key_that_was_changed(bounds: Any) -> None:
    """Nobody finds it any more; the others are cached as before, and it leaves in its turn."""
    cache: VolatileCache[Any, bytes] = VolatileCache(**bounds)
    key = Key(1)
    cache[key] = b"v" * 50
    key.number = 2
    for n in range(200):
        cache[n] = b"%d" % n * 10
        assert n in cache
    engine_of(cache).lookup.torn = True  # all is counted anew
    cache[200] = b"200" * 10
    assert 200 in cache
    assert len({found for found in cache if isinstance(found, int)}) >= 2


def test_a_pickle_that_fails_half_way_stores_nothing() -> None:
    class Half:
        def __reduce__(self) -> Any:
            raise ValueError("half way")

    cache: VolatileCache[str, Any] = VolatileCache()
    cache["k"] = "before"
    with pytest.raises(TypeError, match="half way"):
        cache["k"] = [b"x" * 100_000, Half()]
    assert cache["k"] == "before"
    is_valid(cache)
