"""A second tier behind a shared cache: what goes there and comes from there, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache, VolatilityWarning, volatile_cache
from mvolatile.cache.behind import room
from mvolatile.shared.place import Place
from support.keepers import end_keepers, in_child, until
from support.mappings import Behind, kinds
from support.second import Files, lose, settled, written

Make = Callable[..., SharedCache[Any, Any]]
told = partial(pytest.warns, VolatilityWarning)


@pytest.fixture(params=["back", "through"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- while all goes well


def test_what_was_stored_is_there_after_the_keepers_end(client: Make, runtime: Path, mode: str) -> None:
    numpy = pytest.importorskip("numpy")
    values = {"b": b"bytes", "t": "text", "o": {"a": [1]}, 3: bytearray(b"x"), (1, None): bytes(100_000)}
    with client(behind_mode=mode) as cache:
        cache.update(values)
        cache["array"] = numpy.arange(50_000.0)
    end_keepers(runtime)
    assert not list(runtime.glob("*.due")), "nothing is due, and no file says so"
    with client(behind_mode=mode) as cache:
        assert len(cache) == 0
        for key, value in values.items():
            assert cache[key] == value
            assert type(cache[key]) is type(value)
        array = cache["array"]
        assert (array == numpy.arange(50_000.0)).all()
        assert array.flags.writeable
        assert cache.get("none") is None
        info = cache.cache_info()
        assert (info.behind_hits, info.hits, info.misses) == (len(values) + 1, 2 * len(values) + 1, 1)
        assert len(cache) == len(values) + 1


def test_through_waits(client: Make, behind: Behind) -> None:
    cache = client(behind_mode="through")
    cache["k"] = b"v"
    assert len(behind) == 1
    del cache["k"]
    assert len(behind) == 0
    cache["k"] = b"v"
    cache.clear()
    assert len(behind) == 0
    assert cache.keeper_info()["due"] == 0


def test_a_factory_is_asked_after_what_is_behind(client: Make, behind: Behind) -> None:
    cache, other, made = client(), client(), []

    def factory() -> bytes:
        made.append(1)
        return b"made"

    assert cache.get_or_set("k", factory) == b"made"
    written(cache)
    lose(cache)
    assert other.get_or_set("k", factory) == b"made"
    lose(cache)
    assert asyncio.run(cache.aget_or_set("k", factory)) == b"made"
    assert len(made) == 1
    assert kinds(behind) == ["get", "set", "get", "get"], "what was found is not written again"
    assert (cache.cache_info().hits, cache.cache_info().misses) == (1, 1)
    assert (other.cache_info().hits, other.cache_info().misses) == (1, 0)


def test_all_that_reads_and_changes_reads_there(client: Make) -> None:
    cache = client()
    cache.set("n", 5, ttl=1000)
    cache["p"] = b"popped"
    written(cache)
    lose(cache)
    assert "n" in cache
    assert len(cache) == 0, "to look for it does not bring it"
    assert not cache.add("n", 1)
    lose(cache)
    assert 0 < (cache.ttl("n") or 0) <= 1000
    lose(cache)
    assert cache.incr("n") == 6
    written(cache)
    lose(cache)
    assert 0 < (cache.ttl("n") or 0) <= 1000, "it lives as long as it would have"
    assert cache.touch("n", math.inf)
    written(cache)
    lose(cache)
    assert cache.ttl("n") == math.inf
    lose(cache)
    assert cache.get_many(["n", "p", "q"]) == {"n": 6, "p": b"popped"}
    lose(cache)
    assert cache.pop("p") == b"popped"
    lose(cache)
    assert cache.delete_many(["n", "p"]) == 1
    assert cache.get("n") is cache.get("p") is None


def test_what_expired(client: Make, behind: Behind) -> None:
    cache = client()
    cache.set("k", b"v", ttl=0.2)
    written(cache)
    lose(cache)
    until(lambda: cache.get("k") is None)
    written(cache)
    assert len(behind) == 0, "it is deleted when it is met"


def test_the_decorator(runtime: Path, behind: Behind, make: Make) -> None:
    calls = []

    @volatile_cache(shared="decorated", name="double", behind=behind)
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    assert double(4) == 8
    double.cache.close()
    end_keepers(runtime)
    cache = make("decorated", behind=behind)
    assert cache.get(double.cache_key(4)) == 8
    with pytest.raises(TypeError, match="mapping"):
        volatile_cache(shared="x", behind=5)(len)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="behind_mode"):
        make("x", behind={}, behind_mode="x")


def test_a_private_cache_of_the_same_name_has_other_keys_there(client: Make, behind: Behind) -> None:
    from mvolatile import VolatileCache

    cache = client()
    cache["k"] = b"shared"
    written(cache)
    with VolatileCache(name="test", behind=behind) as private:
        assert private.get("k") is None


# ---- what goes wrong


def test_errors_are_counted_and_told_once(client: Make, behind: Behind) -> None:
    cache = client(behind_mode="through")
    cache["k"] = b"old"
    behind.fail("set")
    with told(match="No space"):
        cache["k"] = b"new"
    assert cache["k"] == b"new"
    lose(cache)
    assert cache.get("k") is None, "the older value is to be deleted, and is not believed"
    until(lambda: cache.set("x", b"", ttl=0) or not len(behind))
    assert cache.cache_info().behind_errors >= 1
    behind.fail("get")
    until(lambda: cache.get("k") is None and cache.cache_info().behind_errors >= 2)
    behind.before = lambda what, key: None


def test_a_store_waits_where_the_queue_is_full(
    client: Make, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvolatile.shared.second.QUEUE", 1000)
    monkeypatch.setattr(room, "SECONDS", 600.0)
    cache = client()
    came, go = behind.stop("set")
    done: list[int] = []

    def store() -> None:
        for n in range(30):
            cache[n] = bytes(100)
            done.append(n)

    thread = threading.Thread(target=store)
    thread.start()
    assert came.wait(60)
    until(lambda: len(done) == 11)  # one in hand, and ten
    assert cache[11] == bytes(100), "memory has it already"
    go.set()
    thread.join(60)
    written(cache)
    assert cache.cache_info().behind_dropped == 0
    assert len(behind) == 30


def test_a_queue_that_stays_full(client: Make, behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvolatile.shared.second.QUEUE", 1000)
    monkeypatch.setattr(room, "SECONDS", 0.01)
    cache = client()
    cache["k"] = b"old"
    written(cache)
    came, go = behind.stop("set")
    cache["a"] = bytes(10)
    assert came.wait(60)
    cache["b"], cache["k"] = bytes(900), bytes(900)
    assert cache.cache_info().behind_dropped == 1
    go.set()
    written(cache)
    lose(cache)
    assert cache.get("k") is None, "what found no room took the older value along"
    assert cache["b"] == bytes(900)


def test_what_is_too_large_for_memory(client: Make, behind: Behind) -> None:
    cache = client(max_bytes=10_000)
    cache["k"] = b"old"
    written(cache)
    with pytest.raises(ValueError, match="max_bytes"):
        cache["k"] = bytes(20_000)
    written(cache)
    assert cache.get("k") is None
    assert len(behind) == 0


def test_what_is_no_record(client: Make, behind: Behind) -> None:
    cache = client()
    cache["k"] = b"v"
    written(cache)
    lose(cache)
    (key,) = list(dict.keys(behind))
    dict.__setitem__(behind, key, b"of somebody else")
    with told(match="no record"):
        assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: b"made") == b"made"


def test_without_a_keeper(
    client: Make, behind: Behind, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    """Nobody has an order; what is deleted must not come back with the next keeper."""
    cache = client()
    cache["k"] = b"v"
    written(cache)
    end_keepers(runtime)
    monkeypatch.setattr(Place, "start", lambda *unused: None)
    assert cache.get("k") is None
    assert cache.delete_many(["k"]) == 0
    monkeypatch.undo()
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(runtime))
    assert len(behind) == 0


def test_a_client_that_has_nothing_behind(client: Make, make: Make, behind: Behind) -> None:
    """Its changes are brought there by others."""
    cache, other = client(), make()
    cache["k"], cache["d"] = b"old", b"old"
    written(cache)
    other["k"] = b"new"
    del other["d"]
    lose(cache)
    assert cache.get("k") is cache.get("d") is None
    cache["x"] = b""
    settled(cache)
    assert len(behind) == 1


def test_a_file_that_cannot_grow(client: Make, behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all is due; memory has its values."""
    from mvolatile.shared.duties import Duties
    from mvolatile.shared.ledger import Ledger
    from mvolatile.shared.wire import ALL

    duties = Duties(Ledger(None))
    monkeypatch.setattr("mvolatile.shared.ledger.MOST", 1024)
    digests = [b"%020d" % n for n in range(1024)]
    numbers = [duties.note(digest, os.getpid()) for digest in digests]
    assert len(duties) == 1024
    number = duties.note(b"x" * 20, os.getpid())
    assert duties.due(digests[0]) == duties.due(b"y" * 20) == 0
    assert duties.take(digests[0], numbers[0], os.getpid()).name == "STALE"
    assert duties.take(ALL, number, os.getpid()).name == "OK"
    duties.done(ALL, number, True)
    assert len(duties) == 0


@pytest.mark.own_process
def test_a_forked_child_brings_its_own(make: Make, tmp_path: Path) -> None:
    cache = make(behind=Files(tmp_path))
    cache["k"] = b"old"
    written(cache)

    def child() -> None:
        assert cache["k"] == b"old"
        cache["k"] = b"the child's"
        cache.close()

    in_child(child)
    lose(cache)
    assert cache["k"] == b"the child's"


def test_the_end_of_the_cache_waits(client: Make, behind: Behind, runtime: Path) -> None:
    cache = client()
    behind.before = lambda what, key: time.sleep(0.002)
    for n in range(50):
        cache[n] = bytes(100)
    cache.close()
    assert len(behind) == 50
    assert not list(runtime.glob("*.due")) or not client().keeper_info()["due"]
