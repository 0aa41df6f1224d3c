"""Losing parts of a cache on purpose, and what must hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from mvolatile import VolatileCache, testing, volatile_cache
from support.c_fork import in_child as in_child


def seal(cache: VolatileCache[Any, Any]) -> None:
    """Make everything in it volatile."""
    cache._change(cache._log.seal_all)


def purge(cache: VolatileCache[Any, Any], key: Any = None) -> int:
    """Have the kernel take all of it, or the shelf on which `key` lies; answers the bytes that went."""
    seal(cache)
    shelves = cache._log.by_number
    chosen = list(shelves.values()) if key is None else [shelves[cache._index[key] >> 21]]
    return sum(shelf.memory.purge() for shelf in chosen)


def purge_some(cache: VolatileCache[Any, Any], random: Random) -> None:
    """Have the kernel take some pages of a random shelf."""
    shelves = [shelf for shelf in list(cache._log.by_number.values()) if shelf.view is None]
    if not shelves:
        return
    memory = random.choice(shelves).memory
    pages = -(-memory.nbytes // 4096)
    first = random.randrange(pages)
    length = min(random.randint(1, pages - first) * 4096, memory.nbytes - first * 4096)
    with suppress(BufferError, ValueError):
        testing.purge(memory, [(first * 4096, length)])


def told(cache: VolatileCache[Any, Any]) -> None:
    """Until `on_lost` and `on_evict` were told of all that was noticed."""
    notices = [each for each in (cache._notices, cache._departures) if each is not None]
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
    log = cache._log
    assert log.nbytes == sum(shelf.used - shelf.emptied for shelf in log.by_number.values())
    assert log.beside == sum(shelf.beside - shelf.emptied_beside for shelf in log.by_number.values())
    assert set(log.shelves) == set(log.by_number)
    open_ones = {shelf.number for shelf in (log.newest, log.survivors) if shelf is not None}
    ordered = [*log.ahead, *log.behind]
    assert len(ordered) == len(set(ordered))
    assert open_ones | set(ordered) == set(log.by_number)
    assert not open_ones & set(ordered)
    memories = [shelf.memory for shelf in log.by_number.values()] + log.spare
    assert len({id(memory) for memory in memories}) == len(memories)
    dropped = {job[0].number for job in log.dropped}
    for key, locator in log.index.items():
        number, slot = locator >> 21, locator >> 4 & 0x1FFFF
        shelf = log.by_number.get(number)
        assert shelf is not None or number in dropped
        if shelf is not None:
            assert shelf.keys[slot] == key
            assert len(shelf.keys) == getattr(shelf.row, "count", 1)
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
    shelves = cache._log.by_number.values()
    return any(0 <= start - shelf.memory.address <= shelf.memory.nbytes - array.nbytes for shelf in shelves)
