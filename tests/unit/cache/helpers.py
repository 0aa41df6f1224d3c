"""Losing parts of a cache on purpose, and what must hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from mvolatile import VolatileCache, testing, volatile_cache
from mvolatile.cache.engine import engine_of
from mvolatile.cache.store import region_of, slot_of
from support.c_fork import in_c_child
from support.c_fork import in_child as in_child

by_either_fork = pytest.mark.parametrize(
    "fork",
    [
        pytest.param(in_child, id="by Python"),
        pytest.param(in_c_child, id="in C", marks=pytest.mark.own_process),
    ],
)
"""A test takes `fork`, which calls a function in a child."""


def seal(cache: VolatileCache[Any, Any]) -> None:
    """Make everything in it volatile."""
    engine_of(cache).change(engine_of(cache).store.seal_all)


def purge(cache: VolatileCache[Any, Any], key: Any = None) -> int:
    """Have the kernel take all of it, or the region on which `key` lies; answers the bytes that went."""
    seal(cache)
    regions = engine_of(cache).store.regions
    chosen = list(regions.values()) if key is None else [regions[region_of(engine_of(cache).index[key])]]
    return sum(region.memory.purge() for region in chosen)


def purge_some(cache: VolatileCache[Any, Any], random: Random) -> None:
    """Have the kernel take some pages of a random region."""
    regions = [region for region in list(engine_of(cache).store.regions.values()) if not region.is_open]
    if not regions:
        return
    memory = random.choice(regions).memory
    pages = -(-memory.nbytes // 4096)
    first = random.randrange(pages)
    length = min(random.randint(1, pages - first) * 4096, memory.nbytes - first * 4096)
    with suppress(BufferError, ValueError):
        testing.purge(memory, [(first * 4096, length)])


def told(cache: VolatileCache[Any, Any]) -> None:
    """Until `on_lost` and `on_evict` were told of all that was noticed."""
    notices = [each for each in (engine_of(cache).notices, engine_of(cache).departures) if each is not None]
    assert notices
    for _ in range(10_000):
        threads = [thread for thread in threading.enumerate() if thread.name == "mvolatile-notices"]
        if all(each.idle for each in notices) and not threads:
            return
        for thread in threads:
            thread.join(0.01)
    raise AssertionError("on_lost never ends")


def is_valid(cache: VolatileCache[Any, Any]) -> bool:
    """The invariants of a cache at rest."""
    engine = engine_of(cache)
    store = engine.store
    regions = store.regions
    assert store.nbytes == sum(region.used - region.emptied for region in regions.values())
    assert store.overhead == sum(region.overhead - region.emptied_overhead for region in regions.values())
    assert set(store.lookup.tables) == set(regions)
    open_ones = {segment.number for segment in store.open.values()}
    ordered = [region.number for region in engine.policy.order()]
    assert len(ordered) == len(set(ordered))
    assert open_ones | set(ordered) == set(regions)
    assert not open_ones & set(ordered)
    memories = [region.memory for region in regions.values()] + regions.spare
    assert len({id(memory) for memory in memories}) == len(memories)
    dropped = {job[0].number for job in store.dropped}
    for key, locator in store.index.items():
        region = regions.get(region_of(locator))
        assert region is not None or region_of(locator) in dropped
        if region is not None:
            assert region.keys[slot_of(locator)] == key
            assert len(region.keys) == getattr(region.table, "count", 1)
    return True


def on_miss_and_hits(make: Callable[[], Any], use: Callable[[Any], Any], **options: Any) -> list[Any]:
    """What `use` makes of the value of ``make()``: of the maker's own, of a hit on what was just stored, on what is
    volatile, and of another, which must not know what `use` did to those before.
    """
    cached = volatile_cache(**options)(make)
    made = [use(cached()), use(cached())]
    seal(cached.cache)
    return [*made, use(cached()), use(cached())]


def lies_in(cache: VolatileCache[Any, Any], array: Any) -> bool:
    """Whether the array's bytes are the cache's own memory."""
    start = array.__array_interface__["data"][0]
    regions = engine_of(cache).store.regions.values()
    return any(
        0 <= start - region.memory.address <= region.memory.nbytes - array.nbytes for region in regions
    )


def count_moves(cache: VolatileCache[Any, Any]) -> list[None]:
    """Has an item for each value that is moved from now on."""
    store, moved = engine_of(cache).store, list[None]()
    move = store.move

    def counted(*arguments: object) -> None:
        moved.append(None)
        move(*arguments)  # type: ignore[arg-type]

    store.move = counted  # type: ignore[method-assign, assignment]
    return moved


class ActingKey:
    """Does something when it is compared: all are equal to whatever has their hash."""

    act: Callable[[], object] = int

    def __hash__(self) -> int:
        return hash("plain")

    def __eq__(self, other: object) -> bool:
        self.act()
        return self is other
