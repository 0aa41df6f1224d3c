"""A small value into a full cache, for which others go: in one call of C that has Python make room (`put_full`)."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import TooLargeError, VolatileCache
from mvolatile.cache import pressure
from mvolatile.cache.engine import engine_of

from .helpers import ActingKey, by_either_fork, is_valid
from .test_interrupt import interrupt_at

VALUE = b"v" * 100
BOUNDS = {"maxsize": {"maxsize": 50}, "max_bytes": {"max_bytes": 5000}}


@pytest.fixture(autouse=True)
def _nobody_tells_of_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "listen", lambda cache: True)


@pytest.fixture(params=list(BOUNDS))
def bound(request: pytest.FixtureRequest) -> dict[str, int]:
    return BOUNDS[request.param]


def full(**options: Any) -> VolatileCache[Any, Any]:
    cache: VolatileCache[Any, Any] = VolatileCache(**options)
    for number in range(-100, 0):
        cache[number] = VALUE
    return cache


def is_plain(cache: VolatileCache[Any, Any], key: Any, value: Any = VALUE) -> bool:
    """Whether it is stored in one call."""
    return engine_of(cache).lookup.put(key, value)


def test_it_is_stored_and_others_go(bound: dict[str, int]) -> None:
    cache = full(**bound)
    plain = 0
    for number in range(500):
        plain += is_plain(cache, number, b"%03d" % number * 33)
        cache[number] = b"%03d" % number * 33
        assert cache[number] == b"%03d" % number * 33
        assert len(cache) <= 50
        assert is_valid(cache)
    assert plain > 400, "but where a segment is compacted"
    assert cache.cache_info().evicted >= 500


@pytest.mark.parametrize(
    "value", [b"", b"z" * (1 + (1 << 20)), [1], bytearray(9), 5], ids=lambda it: repr(it)[:9]
)
def test_the_long_way_for_all_else(bound: dict[str, int], value: Any) -> None:
    cache = full(**bound)
    assert not is_plain(cache, "k", value)
    with suppress(TooLargeError):
        cache["k"] = value
        assert cache["k"] == value
    assert is_valid(cache)


def test_what_could_never_fit_is_refused() -> None:
    cache = full(max_bytes=1000)
    assert not is_plain(cache, "k", bytes(1001))
    with pytest.raises(TooLargeError):
        cache["k"] = bytes(1001)
    cache["other"] = VALUE
    assert is_plain(cache, "k", bytes(900))


def test_the_same_goes_as_by_the_long_way(bound: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    one_call, long_way = full(**bound), full(**bound)
    for cache in (one_call, long_way):  # each store is told to it, even where much was overwritten
        monkeypatch.setattr(engine_of(cache).policy, "indifferent", lambda: 0)
    one_call["k"] = long_way["k"] = VALUE
    draw = random.Random(7)
    for _ in range(3000):
        key, value = int(draw.paretovariate(0.5)) % 300, bytes(draw.randrange(1, 200))
        one_call[key] = value
        engine_of(long_way).storing.store(key, value, None)
        asked = int(draw.paretovariate(0.5)) % 300
        assert one_call.get(asked) == long_way.get(asked)
    assert set(one_call) == set(long_way)
    told = [cache.cache_info() for cache in (one_call, long_way)]
    assert told[0].evicted == told[1].evicted > 100
    assert told[0].stores == told[1].stores


@pytest.mark.parametrize(
    "change",
    [lambda cache: cache.pop(-1), lambda cache: cache.resize(100), VolatileCache.clear, VolatileCache.close],
    ids=["popped", "resized", "cleared", "closed"],
)
def test_every_other_change_ends_it(bound: dict[str, int], change: Callable[[Any], object]) -> None:
    cache = full(**bound)
    assert is_plain(cache, -1)
    change(cache)
    assert not is_plain(cache, "k")


def test_a_value_made_meanwhile_is_out_of_date(bound: dict[str, int]) -> None:
    cache = full(**bound)

    def make() -> bytes:
        assert not is_plain(cache, "k"), "who makes is to be told"
        cache["k"] = b"set meanwhile"
        return b"made"

    assert cache.get_or_set("k", make) == b"made"
    assert cache["k"] == b"set meanwhile"


def test_it_may_be_interrupted_at_any_line(bound: dict[str, int]) -> None:
    """Every value is its own or gone, and the next store mends what was cut short."""
    cache = full(**bound)
    with interrupt_at(0) as ran:
        store_three(cache)
    assert ran[0] > 100
    for line in range(1, ran[0] + 1):
        cache = full(**bound)
        with suppress(KeyboardInterrupt), interrupt_at(line):
            store_three(cache)
        for number in range(3):
            assert cache.get(number) in (None, b"%d" % number * 50)
        assert all(cache.get(number) in (None, VALUE) for number in range(-100, 0))
        cache["next"] = VALUE
        assert cache["next"] == VALUE
        assert len(cache) <= 50 or engine_of(cache).store.nbytes <= 5000
        assert is_valid(cache)


def store_three(cache: VolatileCache[Any, Any]) -> None:
    for number in range(3):
        cache[number] = b"%d" % number * 50


def test_a_key_that_changes_the_cache_in_the_middle(bound: dict[str, int]) -> None:
    cache, key = full(**bound), ActingKey()
    cache["plain"] = VALUE

    def act() -> None:
        key.act = int
        cache["inner"] = b"inner"
        cache.pop("plain", None)

    key.act = act
    assert is_plain(cache, key, b"outer")
    assert cache["inner"] == b"inner", "it was compared"
    assert "plain" not in cache
    assert cache[key] == b"outer"
    assert is_valid(cache)


def test_a_key_that_stores_while_it_is_passed_over(bound: dict[str, int]) -> None:
    """The evictor is in the middle of a segment: what the key stores is put off, and passes over nothing."""
    cache, key = full(**bound), ActingKey()
    cache["plain"] = VALUE
    cache[key] = b"outer"
    acted: list[int] = []

    def act() -> None:
        if len(acted) < 9:
            acted.append(1)
            for number in range(3):
                cache["inner", number] = VALUE

    key.act = act
    for number in range(200):
        cache[number] = VALUE
        assert cache["plain"] == VALUE, "it stays, and is what the key is compared with"
        assert len(cache) <= 50
        assert is_valid(cache)
    assert acted


@by_either_fork
@pytest.mark.parametrize("inherit", [True, False])
def test_after_a_fork(
    bound: dict[str, int], fork: Callable[[Callable[[], None]], None], inherit: bool
) -> None:
    cache = full(inherit=inherit, **bound)
    assert is_plain(cache, "k")

    def child() -> None:
        assert not is_plain(cache, "of the child"), "whose is the lock?"
        for number in range(200):
            cache[number] = b"%d" % number
            assert cache[number] == b"%d" % number
        assert is_valid(cache)

    fork(child)
    assert is_plain(cache, "k")
    assert cache["k"] == VALUE


def test_a_fork_in_its_middle(bound: dict[str, int]) -> None:
    cache, key = full(**bound), ActingKey()
    cache["plain"] = VALUE
    children: list[int] = []
    key.act = lambda: children or children.append(os.fork())
    cache[key] = b"outer"
    key.act = int
    well = cache.get(key) in (None, b"outer")
    for number in range(200):
        cache[number] = b"%d" % number
        well &= cache[number] == b"%d" % number
    well &= is_valid(cache)
    if not children[0]:
        os._exit(not well)
    assert well
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_threads_that_store_at_once(bound: dict[str, int]) -> None:
    cache, wrong = full(**bound), []

    def store(thread: int) -> None:
        for number in range(2000):
            cache[thread, number % 40] = b"%d,%d" % (thread, number)
            found = cache.get((thread, number % 40))
            if found not in (None, b"%d,%d" % (thread, number)):
                wrong.append(found)
            if number % 97 == 0:
                cache[thread, "list"] = [number]

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) <= 50 or engine_of(cache).store.nbytes <= 5000
    assert is_valid(cache)
