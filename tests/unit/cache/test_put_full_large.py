"""A large value into a full cache: in one call of C, as a small one, into the memory of one that left."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile._core import give_back_kept
from mvolatile.cache import pressure
from mvolatile.cache.addresses import AddressSpace, OutOfMemoryError
from mvolatile.cache.engine import engine_of

from .helpers import by_either_fork, is_valid
from .test_interrupt import interrupt_at
from .test_put_full import is_plain

SIZE, MANY = 70_000, 16
BOUNDS = {"maxsize": {"maxsize": MANY}, "max_bytes": {"max_bytes": MANY * SIZE}}


@pytest.fixture(autouse=True)
def _nobody_tells_of_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "listen", lambda cache: True)


@pytest.fixture(params=list(BOUNDS))
def bound(request: pytest.FixtureRequest) -> dict[str, int]:
    return BOUNDS[request.param]


def value_of(number: int, size: int = SIZE) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def full(**options: Any) -> VolatileCache[Any, Any]:
    cache: VolatileCache[Any, Any] = VolatileCache(**options)
    for number in range(-2 * MANY, 0):
        cache[number] = value_of(number & 0xFF)
    return cache


def test_it_is_stored_and_others_go(bound: dict[str, int]) -> None:
    cache = full(**bound)
    for number in range(100):
        assert is_plain(cache, number, value_of(number))
        assert cache[number] == value_of(number)
        assert len(cache) <= MANY
        assert is_valid(cache)
    assert cache.cache_info().evicted >= 100


def test_text_comes_the_same_way(bound: dict[str, int]) -> None:
    cache = full(**bound)
    for number in range(30):
        text = f"{number:05}é" * 11_000
        assert is_plain(cache, "text", text)
        assert cache["text"] == text


def test_not_where_nothing_has_to_go() -> None:
    """Its memory would be fresh, and the copy into it long."""
    cache: VolatileCache[int, Any] = VolatileCache(max_bytes=MANY * SIZE)
    for number in range(MANY // 2):
        assert not is_plain(cache, number, value_of(number))
        cache[number] = value_of(number)
    assert len(cache) == MANY // 2


def test_not_beside_a_limit_on_rss(bound: dict[str, int]) -> None:
    cache = full(**bound, max_resident=2 * MANY * SIZE)
    assert not is_plain(cache, "k", value_of(1))
    cache["k"] = value_of(1)
    assert cache["k"] == value_of(1)


def test_the_same_goes_as_by_the_long_way(bound: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    one_call, long_way = full(**bound), full(**bound)
    for cache in (one_call, long_way):  # each store is told to it, even where much was overwritten
        monkeypatch.setattr(engine_of(cache).policy, "indifferent", lambda: 0)
    draw, plain = random.Random(7), 0
    for _ in range(1500):
        key = int(draw.paretovariate(0.5)) % 60
        value = bytes(draw.choice([100, 5000, 17_000, 66_000, 90_000, 250_000, 400_000]))
        if not key % 7:
            give_back_kept()  # then the copy would be long: room is made in one call, and the rest is not
        if is_plain(one_call, key, value):
            plain += len(value) > 60_000
        else:
            engine_of(one_call).storing.store(key, value, None)
        engine_of(long_way).storing.store(key, value, None)
        asked = int(draw.paretovariate(0.5)) % 60
        assert one_call.get(asked) == long_way.get(asked)
    assert plain > 100
    assert set(one_call) == set(long_way)
    told = [cache.cache_info() for cache in (one_call, long_way)]
    assert told[0].evicted == told[1].evicted > 100
    assert is_valid(one_call)


def test_where_no_memory_was_kept(bound: dict[str, int]) -> None:
    cache = full(**bound)
    for number in range(40):
        give_back_kept()
        assert is_plain(cache, number, value_of(number, SIZE + 8000 * (number % 2)))
        assert cache[number] == value_of(number, SIZE + 8000 * (number % 2))
        assert is_valid(cache)


def test_where_no_memory_is_to_be_had(bound: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are given up for it; and where that is not enough it is not stored, and what it was to replace is gone."""
    cache, refused = full(**bound), [2]
    take = AddressSpace._take  # noqa: SLF001 - where mmap would refuse

    def refuse(self: AddressSpace, nbytes: int, make: Callable[[], Any]) -> Any:
        if refused[0]:
            refused[0] -= 1
            raise OutOfMemoryError
        return take(self, nbytes, make)

    monkeypatch.setattr(AddressSpace, "_take", refuse)
    monkeypatch.setattr(AddressSpace, "store_in_kept", lambda self, parts, nbytes: None)
    cache["k"] = value_of(1)
    assert cache["k"] == value_of(1)
    refused[0] = 10_000
    cache["k"] = value_of(2)
    assert cache.get("k") is None
    refused[0] = 0
    cache["k"] = value_of(3)
    assert cache["k"] == value_of(3)
    assert is_valid(cache)


def store_three(cache: VolatileCache[Any, Any]) -> None:
    for number in range(3):
        cache[number] = value_of(number)


def test_it_may_be_interrupted_at_any_line(bound: dict[str, int]) -> None:
    """Every value is its own or gone, and the next store mends what was cut short."""
    cache = full(**bound)
    with interrupt_at(0) as ran:
        store_three(cache)
    assert ran[0] > 100
    for line in range(1, ran[0] + 1, 3):
        cache = full(**bound)
        with suppress(KeyboardInterrupt), interrupt_at(line):
            store_three(cache)
        for number in range(3):
            assert cache.get(number) in (None, value_of(number))
        cache["next"] = value_of(9)
        assert cache["next"] == value_of(9)
        assert len(cache) <= MANY
        assert is_valid(cache)
        cache.close()


@by_either_fork
@pytest.mark.parametrize("inherit", [True, False])
def test_after_a_fork(
    bound: dict[str, int], fork: Callable[[Callable[[], None]], None], inherit: bool
) -> None:
    cache = full(inherit=inherit, **bound)
    assert is_plain(cache, "k", value_of(5))

    def child() -> None:
        assert not is_plain(cache, "of the child", value_of(6)), "whose is the lock?"
        for number in range(40):
            cache[number] = value_of(number)
            assert cache[number] == value_of(number)
        assert is_valid(cache)

    fork(child)
    assert is_plain(cache, "k", value_of(7))
    assert cache["k"] == value_of(7)


def test_threads_that_store_at_once(bound: dict[str, int]) -> None:
    """Some find the lock taken, and go the long way; some have no memory that was kept."""
    cache, wrong = full(**bound), []

    def store(thread: int) -> None:
        for number in range(150):
            size = (SIZE, 2 * SIZE, 4 * SIZE)[number % 3]
            cache[thread, number % 5] = value_of(number, size)
            if cache.get((thread, number % 5)) not in (None, value_of(number, size)):
                wrong.append(number)
            if number % 50 == 0:
                give_back_kept()

    threads = [threading.Thread(target=store, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) <= MANY or engine_of(cache).store.nbytes <= MANY * SIZE
    assert is_valid(cache)
