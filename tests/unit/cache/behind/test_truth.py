"""No thread reads what is older than what it knows was stored, whatever the kernel takes and the mapping does."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache.behind import pending, writer
from mvolatile.cache.engine import engine_of

from ..helpers import is_valid, purge_some, seal
from .mappings import Behind, written

KEYS = 6
STEPS = 400


class Unsteady(Behind):
    """Fails now and then, before or after it has done what it was to do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)
        self.before = self.perhaps

    def perhaps(self, what: str, key: Any) -> None:
        if self.random.random() < 0.1:
            raise OSError("before it was done")

    def __setitem__(self, key: str, value: bytes) -> None:
        super().__setitem__(key, value)
        if self.random.random() < 0.1:
            raise OSError("after it was done")


class Truth:
    """Of each key one thread stores rising numbers, and all read."""

    def __init__(self, cache: VolatileCache[int, Any], size: int) -> None:
        self.cache, self.size = cache, size
        self.last = [0] * KEYS
        self.wrong: list[Any] = []

    def value(self, number: int) -> bytes:
        return number.to_bytes(4, "little") * self.size

    def change(self, mine: int, seed: int) -> None:
        random = Random(seed)
        for number in range(1, STEPS):
            how = random.random()
            if how < 0.5:
                self.cache[mine] = self.value(number)
            elif how < 0.7:
                self.cache.delete_many([mine])
            elif how < 0.8:
                self.cache.pop(mine, None)
            elif how < 0.9:
                self.cache.get_or_set(mine, partial(self.value, number))
                self.cache[mine] = self.value(number)
            else:
                self.cache.set(mine, self.value(number), ttl=1000)
            self.last[mine] = number
            self.read(random)

    def read(self, random: Random) -> None:
        key = random.randrange(KEYS)
        known = self.last[key]
        value = self.cache.get(key)
        if value is not None and (len(value) != 4 * self.size or int.from_bytes(value[:4], "little") < known):
            self.wrong.append((key, known, int.from_bytes(value[:4], "little")))

    def take(self, seed: int, over: threading.Event) -> None:
        random = Random(seed)
        while not over.is_set():
            seal(self.cache)
            purge_some(self.cache, random)
            self.read(random)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writer, "PAUSE", 0.0)
    monkeypatch.setattr(pending, "MOST", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("mode", ["back", "through"])
@pytest.mark.parametrize("size", [10, 20_000])
def test_what_was_stored_last(mode: Any, size: int) -> None:
    behind = Unsteady(size)
    cache: VolatileCache[int, Any] = VolatileCache(behind=behind, behind_mode=mode)
    tier = engine_of(cache).tier
    assert tier is not None
    tier.pending.most = 4 * size * 3
    truth, over = Truth(cache, size), threading.Event()
    changers = [threading.Thread(target=truth.change, args=(key, key)) for key in range(KEYS)]
    taker = threading.Thread(target=truth.take, args=(7, over))
    for thread in [*changers, taker]:
        thread.start()
    for thread in changers:
        thread.join(120)
    over.set()
    taker.join(120)
    assert truth.wrong == []
    is_valid(cache)
    for _ in range(100):
        written(cache)
    info = cache.cache_info()
    assert info.behind_hits
    assert info.behind_errors
    found: VolatileCache[int, Any] = VolatileCache(behind=behind)
    behind.before = lambda what, key: None
    for key in range(KEYS):
        value = found.get(key)
        assert value in (None, cache.get(key)) or int.from_bytes(value[:4], "little") >= truth.last[key]
    cache.close()
    found.close()
