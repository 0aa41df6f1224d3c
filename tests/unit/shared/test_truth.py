"""No wrong value, whatever dies; the long form is in `tests/stress`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache
from mvolatile.shared.place import Place
from mvolatile.shared.segment import HUGE, TIMES
from support.keepers import is_free, until
from support.truth import run


@pytest.mark.parametrize("way", ["readv", "message"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_no_wrong_value(runtime: Path, monkeypatch: pytest.MonkeyPatch, tier: str, way: str) -> None:
    monkeypatch.setenv("MVOLATILE_TIER", tier)
    monkeypatch.setenv("MVOLATILE_SHARED_READ", way)
    told = run("truth", processes=4, operations=4_000, seed=1, kill_each=400)
    assert told.hits
    assert told.keepers_killed
    assert told.workers_killed
    until(lambda: is_free(Place("truth").path("lock")))  # it lingers, and leaves nothing


@pytest.mark.parametrize("mode", ["back", "through"])
def test_no_wrong_value_with_a_disk_behind(runtime: Path, tmp_path: Path, mode: str) -> None:
    """What is older than a change that has returned is a wrong value there, too, whoever was killed meanwhile."""
    diskcache = pytest.importorskip("diskcache")

    def options() -> dict[str, Any]:
        return {"behind": diskcache.Cache(str(tmp_path)), "behind_mode": mode}

    told = run("truth", processes=4, operations=4_000, seed=1, kill_each=400, options=options)
    assert told.hits
    assert told.keepers_killed
    assert told.workers_killed
    until(lambda: is_free(Place("truth").path("lock")))


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_huge_pages_that_are_purged_while_they_are_read(
    make: Callable[..., SharedCache[int, bytes]], monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """40: a value is whole and its key's, or a miss, while others on its huge page are stored, overwritten, lost."""
    monkeypatch.setenv("MVOLATILE_TIER", tier)
    cache, size, stop = make(), 240_000, threading.Event()
    keys = range(HUGE * TIMES * 3 // 2 // size)
    hits: list[int] = []
    wrong: list[Any] = []

    def store(key: int, version: int) -> None:
        cache[key] = b"%07d,%07d." % (key, version) * (size // 16)

    def read() -> None:
        while not stop.is_set():
            for key in keys:
                value = cache.get(key)
                if value is not None:
                    hits.append(key)
                    if value != b"%07d,%b" % (key, value[8:16]) * (size // 16):
                        wrong.append(key)

    for key in keys:
        store(key, 0)
    thread = threading.Thread(target=read)
    thread.start()
    for version in range(1, 8):
        cache.purge(8 << 20)
        for key in keys:
            if key % 7 == version or key not in cache:
                store(key, version)
    until(lambda: bool(hits))
    stop.set()
    thread.join()
    assert not wrong
    told = cache.keeper_info()
    assert told["purged"] > 50
    assert told["segments"] < len(keys) - 20
