"""A retired segment's memory is filled again, and nobody reads another's bytes by it."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import mvolatile as mv
import mvolatile.cache.eviction as eviction
from mvolatile import VolatileCache, testing
from mvolatile.cache.engine import Engine, engine_of
from mvolatile.cache.store import region_of, slot_of
from mvolatile.cache.store.regions import SPARE
from mvolatile.memory import live_memories

from ..helpers import is_valid, seal

SIZE = 900


def churned(max_bytes: int = 400_000, values: int = 2000) -> VolatileCache[int, bytes]:
    cache: VolatileCache[int, bytes] = VolatileCache(max_bytes, name="churned")
    for i in range(values):
        cache[i] = b"%d;" % i * (SIZE // 5)
    return cache


def with_a_spare() -> VolatileCache[int, bytes]:
    """Between the retiring of a segment and the opening of the next."""
    cache = churned()
    i = -1
    while not engine_of(cache).store.regions.spare:
        cache[i] = bytes(SIZE)
        i -= 1
    return cache


def addresses(cache: VolatileCache[Any, Any]) -> set[int]:
    return {region.memory.address for region in engine_of(cache).store.regions.values()}


def test_a_full_cache_lives_in_the_memory_it_has() -> None:
    cache = churned()
    before = addresses(cache) | {memory.address for memory in engine_of(cache).store.regions.spare}
    for i in range(2000, 6000):
        cache[i] = b"%d;" % i * (SIZE // 5)
        assert len(engine_of(cache).store.regions.spare) <= SPARE
    after = addresses(cache) | {memory.address for memory in engine_of(cache).store.regions.spare}
    assert len(after - before) <= 2, "but for a few at the edge, all the same"
    assert all(value == b"%d;" % i * (SIZE // 5) for i, value in cache.items())
    is_valid(cache)


def test_a_reader_that_comes_too_late_finds_nothing() -> None:
    """It has looked its locator up; the segment is retired, its memory filled by another and sealed; now it reads."""
    cache = churned(values=300)
    seal(cache)
    key, locator = 299, engine_of(cache).index[299]  # in the window still, so it soon goes
    number, slot = region_of(locator), slot_of(locator)
    late, table = engine_of(cache).store.regions[number], engine_of(cache).lookup.tables[number]
    memory = late.memory
    value = cache[key]
    i = 1000
    while memory not in [
        region.memory for region in engine_of(cache).store.regions.values() if region is not late
    ]:
        cache[i] = b"other" * (SIZE // 5)
        i += 1
    seal(cache)
    assert memory.read(0, 5) == b"other"
    with pytest.raises(ValueError, match="another segment"):
        late.read(slot)
    # The same for the quick way, with the two dictionaries as the reader saw them.
    engine_of(cache).lookup.tables[number] = table
    engine_of(cache).index["late"] = locator
    found = cache.get("late")  # type: ignore[call-overload]
    assert found is None or found == value
    engine_of(cache).lookup.tables.pop(number, None)
    is_valid(cache)


def test_a_held_memory_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "DEFAULT", "clock")  # by which all goes in its turn
    cache = churned(values=300)
    seal(cache)
    number = next(iter(engine_of(cache).store.regions))
    memory = engine_of(cache).store.regions[number].memory
    with memory.pin() as view:
        before = bytes(view)
        for i in range(1000, 2000):
            cache[i] = b"other" * (SIZE // 5)
        assert number not in engine_of(cache).store.regions
        assert bytes(view) == before
    assert memory.address not in addresses(cache)


@pytest.mark.skipif(not mv.features().can_purge, reason="nothing is purged in this tier")
def test_a_spare_memory_may_be_lost() -> None:
    cache = with_a_spare()
    lost = 0
    for round_ in range(30):
        for memory in engine_of(cache).store.regions.spare:
            lost += testing.purge(memory, [(0, 4096)] if round_ % 2 else [(0, memory.nbytes)])
        for i in range(200):
            key = 10_000 + round_ * 200 + i
            cache[key] = b"%d;" % key * (SIZE // 7)
            assert cache[key] == b"%d;" % key * (SIZE // 7)
    seal(cache)
    recent = range(10_000 + 29 * 200, 10_000 + 30 * 200)
    assert all(cache[key] == b"%d;" % key * (SIZE // 7) for key in recent)
    assert lost
    assert cache.cache_info().purged == 0, "nobody's value was on it"


def test_clear_close_and_pressure_give_spare_memory_back() -> None:
    for give_back in (Engine.clear, Engine.close, Engine.under_pressure):
        cache = with_a_spare()
        give_back(engine_of(cache))
        assert not engine_of(cache).store.regions.spare
        cache.close()
    del cache
    gc.collect()
    assert not [memory for memory in live_memories() if memory.name == "churned"]
