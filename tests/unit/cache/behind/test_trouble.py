"""A mapping behind a cache that fails, stops, lies or fills up: no get raises, and no older value comes back."""

from __future__ import annotations

import threading
import warnings
from functools import partial
from typing import Any

import pytest

from mvolatile import VolatileCache, VolatilityWarning
from mvolatile.cache.behind import pending, writer
from mvolatile.cache.behind.records import Record
from mvolatile.cache.engine import engine_of

from ..helpers import purge
from .mappings import Behind, written

told = partial(pytest.warns, VolatilityWarning)


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.0)


def make(behind: Behind, **options: Any) -> VolatileCache[Any, Any]:
    return VolatileCache(behind=behind, **options)


def test_a_write_that_fails_leaves_no_older_value(behind: Behind) -> None:
    cache = make(behind)
    cache["k"] = b"old"
    written(cache)
    behind.fail("set")
    with told(match="No space left on device"):
        cache["k"] = b"new"
        written(cache)
        written(cache)
    purge(cache)
    assert cache.get("k") is None
    assert not behind, "and it is deleted there"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        cache["k"] = b"newer"
        written(cache)
        written(cache)
    assert cache.cache_info().behind_errors == 2
    assert cache["k"] == b"newer"
    cache.close()


def test_while_nothing_can_be_deleted_nothing_older_is_read(behind: Behind) -> None:
    cache = make(behind)
    cache["set"], cache["deleted"], cache["kept"] = b"old", b"old", b"kept"
    written(cache)
    behind.fail("set", "del")
    with told():
        cache["set"] = b"new"
        del cache["deleted"]
        written(cache)
    purge(cache)
    assert cache.get("set") is None
    assert cache.get("deleted") is None
    assert cache["kept"] == b"kept"
    behind.before = lambda what, key: None
    cache.close()
    assert len(behind) == 1
    assert make(behind)["kept"] == b"kept"


def test_a_clearing_that_fails(behind: Behind) -> None:
    cache = make(behind)
    cache["k"] = b"old"
    written(cache)
    behind.fail("iter")
    with told():
        cache.clear()
        written(cache)
    assert cache.get("k") is None
    cache["l"] = b"new"
    written(cache)
    assert len(behind) == 1
    behind.before = lambda what, key: None
    cache.close()
    assert make(behind)["l"] == b"new"
    assert make(behind).get("k") is None


def test_what_a_read_raises_is_a_miss(behind: Behind) -> None:
    cache = make(behind)
    cache["k"] = b"v"
    written(cache)
    purge(cache)
    behind.fail("get")
    with told(match="No space left"):
        assert cache.get("k") is None
    assert "k" not in cache
    assert cache.get_or_set("k", lambda: b"made") == b"made"
    assert cache.cache_info().behind_errors == 3
    behind.before = lambda what, key: None
    cache.close()


def test_after_a_failure_it_is_left_alone_for_a_while(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE", 1e9)
    cache = make(behind)
    behind.fail("get", "set")
    with told():
        assert cache.get("k") is None
    for n in range(10):
        assert cache.get(str(n)) is None
        cache[str(n)] = b"v"
    assert cache.cache_info().behind_errors == 1
    assert cache.cache_info().behind_waiting == 10
    behind.before = lambda what, key: None
    cache.close()
    assert len(behind) == 10, "closing tries all the same"


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record[:-1],
        lambda record: record + b"x",
        lambda record: record[:20],
        lambda record: b"",
        lambda record: record[:-1] + bytes([record[-1] ^ 1]),
        lambda record: record[:3] + b"\2" + record[4:],
        lambda record: b"something else altogether, of another program",
        lambda record: 5,
    ],
)
def test_what_is_not_whole_is_a_miss(behind: Behind, damage: Any) -> None:
    cache = make(behind)
    cache["k"] = [b"v" * 1000]
    written(cache)
    purge(cache)
    for key, record in dict.items(behind):
        dict.__setitem__(behind, key, damage(record))
    with told(match="no record of this key, or not whole"):
        assert cache.get("k") is None
    assert cache.get_or_set("k", lambda: b"made") == b"made"
    cache.close()


def test_another_keys_record_is_none(behind: Behind) -> None:
    cache = make(behind)
    cache["k"], cache["l"] = b"v", b"w"
    written(cache)
    purge(cache)
    first, second = list(behind)
    dict.update(behind, {first: behind[second], second: behind[first]})
    with told():
        assert cache.get("k") is None
    cache.close()


def test_a_delete_is_not_undone_by_a_write_that_waits(behind: Behind) -> None:
    cache = make(behind)
    came, go = behind.stop("set")
    cache["k"] = b"v"
    assert came.wait(60)
    cache["l"] = b"w"
    del cache["l"]
    del cache["k"]
    assert cache.get("k") is None
    go.set()
    cache.close()
    assert not behind


def test_what_is_in_hand_or_waits_is_read_from_there(behind: Behind) -> None:
    cache = make(behind)
    cache["k"], cache["l"] = b"old", b"old"
    written(cache)
    came, go = behind.stop("set")
    cache["k"] = b"new"
    assert came.wait(60)
    cache["l"] = b"new"
    purge(cache)
    assert (cache["k"], cache["l"]) == (b"new", b"new")
    go.set()
    cache.close()


@pytest.mark.parametrize("how", ["delete", "clear", "set", "pop"])
@pytest.mark.parametrize("asks", ["get", "get_or_set"])
def test_what_was_read_before_a_change_is_not_stored_after_it(behind: Behind, how: str, asks: str) -> None:
    cache = make(behind)
    cache["k"] = b"old"
    written(cache)
    purge(cache)
    assert engine_of(cache).change(engine_of(cache).reclaimer.finish) is not False
    behind.done.clear()

    class Between(Behind):
        """Its reader rests with what it has."""

        came, go = threading.Event(), threading.Event()

        def __getitem__(self, key: str) -> bytes:
            value = super().__getitem__(key)
            if threading.current_thread() is reader:
                self.came.set()
                assert self.go.wait(60)
            return value

    between = Between()
    dict.update(between, behind)
    cache = make(between)
    got: list[Any] = []
    read = cache.get if asks == "get" else lambda key: cache.get_or_set(key, lambda: b"made")
    reader = threading.Thread(target=lambda: got.append(read("k")))
    reader.start()
    assert between.came.wait(60)
    if how == "delete":
        del cache["k"]
    elif how == "clear":
        cache.clear()
    elif how == "set":
        cache["k"] = b"new"
    else:
        assert cache.pop("k") == b"old"
    written(cache)
    between.go.set()
    reader.join(60)
    assert got == [b"old"]
    assert cache.get("k") == (b"new" if how == "set" else None)
    cache.close()


def test_more_than_can_be_remembered(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "MOST", 50)
    cache = make(behind)
    for n in range(30):
        cache["old", n] = b"old"
    written(cache)
    behind.fail("set", "del", "iter")
    with told():
        for n in range(100):
            cache["new", n] = b"new"
        written(cache)
    assert cache.cache_info().behind_waiting <= 51
    purge(cache)
    assert [cache.get(("old", n)) for n in range(30)] == [None] * 30, "nothing there is believed any more"
    behind.before = lambda what, key: None
    cache["newest"] = b"v"
    cache.close()
    assert make(behind)["newest"] == b"v"
    assert make(behind).get(("old", 1)) is None


def test_where_no_thread_is_to_be_had_who_stores_writes(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*unused: Any, **more: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(writer, "start_thread", refuse)
    monkeypatch.setattr(writer, "tell_once", lambda *unused: None)
    cache = make(behind)
    cache["k"] = b"v"
    assert len(behind) == 1
    cache.close()


def test_a_finalizer_that_uses_the_cache_in_the_middle_of_a_write(behind: Behind) -> None:
    cache = make(behind, behind_mode="through")
    inside: list[Any] = []

    def use(what: str, key: Any) -> None:
        behind.before = lambda what, key: None
        cache["inner"] = b"w"
        inside.append(cache.get("k"))
        del cache["k"]

    behind.before = use
    cache["k"] = b"v"
    assert inside == [b"v"]
    assert cache.get("k") is None
    cache.close()
    assert list(make(behind).get_many(["k", "inner"])) == ["inner"]


def test_a_stop_of_the_program_in_the_middle_of_a_write(behind: Behind) -> None:
    cache = make(behind, behind_mode="through")
    cache["k"] = b"old"

    def stop(what: str, key: Any) -> None:
        behind.before = lambda what, key: None
        raise KeyboardInterrupt

    behind.before = stop
    with pytest.raises(KeyboardInterrupt):
        cache["k"] = b"new"
    purge(cache)
    assert cache.get("k") is None
    cache.close()
    assert not behind


def test_it_is_written_through_when_set_returns(behind: Behind) -> None:
    cache = make(behind, behind_mode="through")
    threads = [
        threading.Thread(target=lambda n=n: [cache.set(f"{n}-{i}", b"v") for i in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(behind) == 80
    assert cache.cache_info().behind_waiting == 0
    del cache["1-1"]
    assert len(behind) == 79


def test_a_stop_before_anything_could_be_said_of_it() -> None:
    """Between two steps of the writer: the next comer takes it for a failure."""
    queue = pending.Pending(1000)
    record = Record(b"k", 0, b"new")
    queue.note("k", record)
    assert queue.take() == ("k", record)
    assert queue.begin("k")[0] is record
    assert queue.take() == ("k", None)
    assert queue.begin("k")[0] is pending.ABSENT
    queue.done(True)
    assert queue.take() is None
    assert queue.begin("k")[0] is pending.UNKNOWN
