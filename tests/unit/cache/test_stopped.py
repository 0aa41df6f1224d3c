"""What a signal's handler raises stops the program, wherever in a cache it comes; it is no trouble of the cache's."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mvolatile import VolatileCache, VolatilityWarning, volatile_cache


class SoftLimitError(Exception):
    """As Celery's: no BaseException."""


class Slow:
    """Takes long to store, or to make again."""

    storing = reading = False

    def __getstate__(self) -> dict[str, Any]:
        if Slow.storing:
            ring()
        return {"n": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if Slow.reading:
            ring()
        self.__dict__.update(state)


def ring() -> None:
    """The limit is over now."""
    signal.raise_signal(signal.SIGUSR1)
    time.sleep(0)


@pytest.fixture(params=[SoftLimitError, TimeoutError])
def limit(request: pytest.FixtureRequest) -> Iterator[type[Exception]]:
    def handler(*unused: object) -> None:
        raise request.param

    before = signal.signal(signal.SIGUSR1, handler)
    yield request.param
    signal.signal(signal.SIGUSR1, before)
    Slow.storing = Slow.reading = False


def function() -> Callable[[], object]:
    return volatile_cache(Slow)


def get_or_set() -> Callable[[], object]:
    cache: VolatileCache[str, Slow] = VolatileCache()
    return lambda: cache.get_or_set("k", Slow)


@pytest.mark.parametrize("made", [function, get_or_set])
def test_while_a_value_is_stored(limit: type[Exception], made: Callable[[], Callable[[], object]]) -> None:
    ask = made()
    Slow.storing = True
    with pytest.raises(limit):
        ask()
    Slow.storing = False
    assert isinstance(ask(), Slow)
    assert isinstance(ask(), Slow), "it goes on, and stores"


@pytest.mark.parametrize("made", [function, get_or_set])
def test_while_a_value_is_read(limit: type[Exception], made: Callable[[], Callable[[], object]]) -> None:
    """It is there still afterwards: it can be decoded."""
    ask = made()
    ask()
    Slow.reading = True
    with pytest.raises(limit):
        ask()
    Slow.reading = False
    Slow.storing = True  # would tell a second making
    assert isinstance(ask(), Slow)


def test_an_error_of_the_values_own_is_told_still(limit: type[Exception]) -> None:
    class Refusing:
        def __reduce__(self) -> Any:
            raise limit

    with pytest.warns(VolatilityWarning, match=limit.__name__):
        assert isinstance(volatile_cache(Refusing)(), Refusing)
