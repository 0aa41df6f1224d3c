"""While the kernel leaves a cache what it wants, the oldest regions are asked about now and then. What was noticed is
acted on with the next region.
"""

from __future__ import annotations

import pytest

from mvolatile import VolatileCache
from mvolatile.cache import pressure
from mvolatile.cache.engine import Engine, engine_of

SIZE, MANY = 100_000, 64
"""Some of which are stored between two looks."""


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> VolatileCache[int, bytes]:
    monkeypatch.setattr(pressure, "listen", lambda cache: True)
    cache: VolatileCache[int, bytes] = VolatileCache()
    for number in range(MANY):
        cache[number] = bytes(SIZE)
    return cache


def lose(engine: Engine, key: int) -> None:
    for region in engine.store.regions.values():
        if region.keys == [key]:
            assert region.memory.purge() > 0


def test_a_loss_that_a_reader_met(cache: VolatileCache[int, bytes]) -> None:
    engine = engine_of(cache)
    for number in range(3):  # wherever it is between two looks
        engine.reclaimer.lift()
        cache[MANY + number] = bytes(SIZE)
        assert engine.budget.allowance is None
        lose(engine, MANY - 1 - number)
        assert cache.get(MANY - 1 - number) is None
        assert engine.store.taken
        cache[0] = bytes(SIZE)
        assert engine.budget.allowance is not None
        assert not engine.store.taken


def test_a_program_that_runs_out_of_addresses(cache: VolatileCache[int, bytes]) -> None:
    engine = engine_of(cache)
    for number in range(3):
        engine.reclaimer.lift()
        cache[MANY + number] = bytes(SIZE)
        assert engine.budget.allowance is None
        engine.addresses.shrinking = True
        cache[0] = bytes(SIZE)
        assert engine.budget.allowance is not None
        assert not engine.addresses.shrinking


def test_the_oldest_are_asked_about_by_and_by(cache: VolatileCache[int, bytes]) -> None:
    engine = engine_of(cache)
    engine.reclaimer.lift()
    lose(engine, 0)
    for number in range(3):
        cache[MANY + number] = bytes(SIZE)
    assert 0 not in cache
    assert engine.budget.allowance is not None
