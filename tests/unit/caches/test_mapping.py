"""A cache is a mapping: what a dict does, it does."""

from __future__ import annotations

from collections.abc import MutableMapping
from random import Random
from typing import Any

import pytest

from .conftest import Factory
from .helpers import LARGE

KEYS = [*range(9), "a", ("b", 1), None, frozenset([2]), 2.5, b"a", "é", ("x", ("y", None)), (), True]


def value_of(random: Random) -> Any:
    size = random.choice([0, 3, 40, 700, 5000, 40_000, LARGE])
    text = random.choice(["a", "é", "€"]) * (size // 3)
    return random.choice(
        [random.randbytes(size), text, size, None, [size, 0.5, None], {"k": text}, bytearray(size)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_does_what_a_dict_does(cache: Any, seed: int) -> None:
    random = Random(seed)
    model: dict[Any, Any] = {}
    for _ in range(600):
        key, what = random.choice(KEYS), random.randrange(9)
        if what < 4:
            cache[key] = model[key] = value_of(random)
        elif what == 4:
            assert cache.pop(key, "gone") == model.pop(key, "gone")
        elif what == 5:
            assert (key in cache) == (key in model)
        elif what == 6:
            assert cache.get(key, "none") == model.get(key, "none")
        elif what == 7 and key not in model:
            with pytest.raises(KeyError):
                del cache[key]
        elif what == 7:
            del cache[key], model[key]
        elif random.random() < 0.02:
            cache.clear()
            model.clear()
        else:
            value = value_of(random)
            assert cache.setdefault(key, value) == model.setdefault(key, value)
    assert dict(cache.items()) == model == dict(cache)
    assert len(cache) == len(model)
    assert sorted(map(repr, cache.values())) == sorted(map(repr, model.values()))
    assert set(cache) == set(model) == set(cache.keys())
    while model:
        key, value = cache.popitem()
        assert model.pop(key) == value
    assert list(cache) == []
    assert not cache


def test_what_a_mapping_has(cache: Any) -> None:
    assert isinstance(cache, MutableMapping)
    cache.update(a=1, b=2)
    assert sorted(cache) == ["a", "b"]
    assert sorted(cache.items()) == [("a", 1), ("b", 2)]
    assert cache.setdefault("a", 7) == 1
    assert cache.setdefault("c", 3) == 3
    assert cache.pop("a") == 1
    assert "a" not in cache
    assert cache.get("a") is None
    assert cache.get("a", 5) == 5
    for wrong in (lambda: cache["a"], lambda: cache.__delitem__("a"), lambda: cache.pop("a")):
        with pytest.raises(KeyError, match="a"):
            wrong()
    assert sorted(cache.values()) == [2, 3]
    assert 2 in cache.values()
    assert 7 not in cache.values()
    assert ("b", 2) in cache.items()
    assert ("b", 3) not in cache.items()
    assert ("x", 3) not in cache.items()
    assert len(cache) == 2
    assert cache


def test_none_is_a_value(cache: Any) -> None:
    cache["k"] = None
    assert "k" in cache
    assert cache.get("k", 1) is None
    assert cache.get_or_set("k", lambda: pytest.fail("it is there")) is None
    assert cache.setdefault("k", 1) is None
    assert cache.pop("k", 1) is None


def test_update_takes_what_a_dict_takes(cache_factory: Factory) -> None:
    cache, other = cache_factory(), cache_factory()
    cache.update({"a": 1})
    cache.update([("b", 2), ("c", 3)], d=4)
    cache.update(iter([("e", 5)]))
    other["f"] = 6
    cache.update(other)
    assert dict(cache) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}
    assert list(other) == ["f"]


def test_delete_many(cache: Any) -> None:
    cache.update({i: i for i in range(10)})
    assert cache.delete_many(range(5, 15)) == 5
    assert cache.delete_many(iter([5, 4, 4])) == 1
    assert sorted(cache) == list(range(4))


def test_popitem(cache: Any) -> None:
    with pytest.raises(KeyError, match="empty"):
        cache.popitem()
    cache.update({i: str(i) for i in range(100)})
    assert dict(cache.popitem() for _ in range(100)) == {i: str(i) for i in range(100)}
    with pytest.raises(KeyError, match="empty"):
        cache.popitem()


def test_keys_that_are_no_keys(cache: Any) -> None:
    cache["k"] = 1
    for wrong in (
        lambda key: cache.get(key),
        lambda key: cache[key],
        lambda key: cache.set(key, 1),
        lambda key: cache.pop(key, None),
        lambda key: key in cache,
        lambda key: cache.get_or_set(key, lambda: 1),
        lambda key: cache.delete_many([key]),
        lambda key: cache.get_many([key]),
        lambda key: cache.touch(key),
        lambda key: cache.add(key, 1),
        lambda key: cache.incr(key, default=1),
        lambda key: cache.ttl(key),
    ):
        unhashable: list[Any] = [[], {}, {1}, bytearray(b"k"), ("k", [])]
        for key in unhashable:
            with pytest.raises(TypeError):
                wrong(key)
    assert dict(cache) == {"k": 1}


def test_values_that_are_no_values(cache: Any) -> None:
    cache["k"] = 1
    with pytest.raises(TypeError, match="does not pickle"):
        cache["k"] = lambda: 0
    with pytest.raises(TypeError, match="does not pickle"):
        cache.add("l", lambda: 0)
    with pytest.raises(TypeError, match="does not pickle"):
        cache.set_many({"l": lambda: 0})
    assert "l" not in cache


def test_changing_while_iterating(cache: Any) -> None:
    """Whatever was there all the time is seen, once."""
    cache.update({i: i for i in range(50)})
    seen = []
    for key in cache:
        seen.append(key)
        cache[f"new {key}"] = 1
        if isinstance(key, int):
            cache.pop((key + 25) % 50, None)
    assert len(seen) == len(set(seen))
    assert all(isinstance(key, str) or key in range(50) for key in seen)
    assert {key for key in cache if isinstance(key, int)} <= set(seen)


def test_an_overwritten_value_never_comes_back(cache: Any) -> None:
    for round_ in range(5):
        for key in range(300):
            cache[key] = b"%d:%d" % (key, round_)
        for key in range(300):
            assert cache.get(key) in (b"%d:%d" % (key, round_), None)
    assert cache.cache_info().currsize == 300


def test_it_is_equal_to_itself_alone(cache_factory: Factory) -> None:
    one, other = cache_factory(), cache_factory()
    assert one == one
    assert one != other
    assert one != {}
    assert {one: 1}[one] == 1


def test_statistics(cache: Any) -> None:
    info = cache.cache_info()
    assert info[:4] == (0, 0, None, 0)
    cache["a"] = b"x" * LARGE
    assert cache["a"]
    assert cache.get("a")
    cache.get("b")
    assert cache.get_many("ab").keys() == {"a"}
    assert cache.pop("b", None) is None
    with pytest.raises(KeyError):
        cache["b"]
    info = cache.cache_info()
    assert info[:4] == (3, 4, None, 1)
    assert info.bytes >= LARGE
    assert info.segments == 1
    assert info.undecodable == 0
    assert info.overhead >= 0
    assert "a" in cache
    assert cache.ttl("a")
    assert list(cache) == ["a"]
    assert cache.cache_info()[:2] == (3, 4), "to look is no hit"
    assert cache.get_or_set("c", lambda: 1) == 1
    assert cache.get_or_set("c", lambda: 1) == 1
    assert cache.cache_info()[:2] == (4, 5)


def test_closing(cache: Any) -> None:
    cache["a"] = 1
    assert not cache.closed
    cache.close()
    cache.close()
    assert cache.closed
    assert cache.get("a") is None
    assert "a" not in cache
    assert len(cache) == 0
    assert list(cache) == []
    assert cache.get_many("a") == {}
    assert cache.delete_many("a") == 0
    assert not cache.touch("a")
    assert cache.ttl("a") is None
    assert cache.purge() == 0
    assert cache.cache_info().currsize == 0
    assert "closed" in repr(cache)
    for store in (
        lambda: cache.__setitem__("a", 1),
        lambda: cache.set("a", 1, ttl=5),
        lambda: cache.add("a", 1),
        lambda: cache.set_many({"a": 1}),
        lambda: cache.incr("a", default=1),
    ):
        with pytest.raises(ValueError, match="nothing can be stored"):
            store()
    assert cache.get_or_set("a", lambda: 2) == 2


def test_with(cache_factory: Factory) -> None:
    with cache_factory() as cache:
        cache["a"] = 1
    assert cache.closed


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_bytes": -1}, ValueError, "max_bytes"),
        ({"max_bytes": "x"}, TypeError, "max_bytes"),
        ({"codec": 5}, TypeError, "codec must define dumps"),
        ({"on_lost": 5}, TypeError, "on_lost must be callable"),
        ({"ttl": -1}, ValueError, "ttl must not be negative"),
        ({"ttl": "x"}, TypeError, "ttl must be a number of seconds"),
        ({"surprise": 1}, TypeError, "surprise"),
    ],
)
def test_wrong_options(
    cache_factory: Factory, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cache_factory(**options)
    cache = cache_factory()
    if "max_bytes" in options:
        with pytest.raises(error, match=words):
            cache.resize(options["max_bytes"])
