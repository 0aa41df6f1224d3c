"""A second tier behind a shared cache: each bad schedule of `shared/duties.py`, by its number there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache
from support.keepers import in_child, kill_keeper, until
from support.mappings import Behind, kinds
from support.second import Files, changes, lose, settled, written

Make = Callable[..., SharedCache[Any, Any]]


@pytest.mark.parametrize("change", ["delete", "set", "clear"])
def test_1_a_store_that_waits_and_a_change_of_another(client: Make, behind: Behind, change: str) -> None:
    b, a = client(), client()
    came, go = behind.stop("set")
    b["first"] = b"stops the writer"
    assert came.wait(60)
    b["k"] = b"old"
    changes(a)[change]()
    go.set()
    written(a, b)
    settled(a)
    lose(a)
    assert a.get("k") == (b"new" if change == "set" else None)
    assert b.get("k") == (b"new" if change == "set" else None)


@pytest.mark.parametrize("change", ["delete", "set", "clear"])
def test_2_a_change_waits_for_who_is_at_it(client: Make, behind: Behind, change: str) -> None:
    b, a = client(), client()
    came, go = behind.stop("set")
    b["k"] = b"old"
    assert came.wait(60)
    changes(a)[change]()
    lose(a)
    expected = b"new" if change == "set" else None
    assert a.get("k") == expected, "what waits here is what it has"
    assert b.get("k") is None, "what is behind is not believed"
    assert kinds(behind) == []
    go.set()
    written(a, b)
    settled(a)
    lose(a)
    assert a.get("k") == b.get("k") == expected


def test_3_a_client_that_is_killed_with_a_store(make: Make, tmp_path: Path) -> None:
    cache = make(behind=Files(tmp_path))
    cache["k"], cache["other"] = b"old", b"other"
    written(cache)

    def child() -> None:
        class Slow(Files):
            def __setitem__(self, key: str, value: bytes) -> None:
                threading.Event().wait()

        mine: SharedCache[Any, Any] = SharedCache("test", behind=Slow(tmp_path))
        mine["k"] = b"new"
        mine["more"] = b"more"
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError):
        in_child(child)
    assert cache["k"] == b"new", "memory has it still"
    assert cache.keeper_info()["due"] == 2
    lose(cache)
    assert cache.get("k") is None, "the older value is not believed"
    assert cache["other"] == b"other"
    until(lambda: cache.set("touched", b"") or cache.keeper_info()["due"] < 2)  # who writes meets what is due
    settled(cache)
    assert len(os.listdir(tmp_path)) == 2
    assert cache.get("k") is None


def test_3_a_client_that_is_killed_with_a_clearing(make: Make, tmp_path: Path) -> None:
    cache = make(behind=Files(tmp_path))
    cache["k"] = b"old"
    written(cache)

    def child() -> None:
        class Slow(Files):
            def __iter__(self) -> Iterator[str]:
                raise OSError("not now")

        mine: SharedCache[Any, Any] = SharedCache("test", behind=Slow(tmp_path))
        mine.clear()
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AssertionError):
        in_child(child)
    assert cache.get("k") is None
    kill_keeper(cache)
    assert cache.get("k") is None
    cache["new"] = b"new"
    settled(cache)
    assert cache.get("k") is None


@pytest.mark.parametrize("change", ["delete", "set", "clear"])
def test_4_the_keeper_is_killed_while_something_is_due(client: Make, behind: Behind, change: str) -> None:
    a, c = client(), client()
    a["k"], a["other"] = b"old", b"other"
    written(a)
    came, go = behind.stop("set")
    a["first"] = b"stops the writer"
    assert came.wait(60)
    changes(a)[change]()
    kill_keeper(a)
    assert c.get("k") is None
    assert c.get("other") == (None if change == "clear" else b"other")
    go.set()
    written(a, c)
    settled(c)
    assert c.get("k") == (b"new" if change == "set" else None), "what was due is done under the next keeper"


def test_5_the_keeper_is_killed_while_somebody_is_at_it(client: Make, behind: Behind) -> None:
    b, a = client(), client()
    came, go = behind.stop("set")
    b["k"] = b"old"
    assert came.wait(60)
    kill_keeper(b)
    a.delete_many(["k"])
    assert "del" not in kinds(behind)
    go.set()
    written(a, b)
    settled(a)
    assert a.get("k") is None
    assert len(behind) == 0


def test_5_who_is_at_it_is_killed_and_the_keeper(make: Make, tmp_path: Path) -> None:
    cache = make(behind=Files(tmp_path))

    def child() -> None:
        class Slow(Files):
            def __setitem__(self, key: str, value: bytes) -> None:
                os.write(told_it, b"1")
                threading.Event().wait()

        SharedCache("test", behind=Slow(tmp_path))["k"] = b"new"
        assert os.read(came, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    came, told_it = os.pipe()
    with pytest.raises(AssertionError):
        in_child(child)
    os.close(came)
    os.close(told_it)
    kill_keeper(cache)
    cache["k"] = b"mine"
    written(cache)
    lose(cache)
    assert cache["k"] == b"mine", "the dead have no turn"


@pytest.mark.parametrize("change", ["delete", "set", "clear"])
@pytest.mark.parametrize("how", ["get", "get_or_set"])
def test_6_what_was_read_before_a_change(client: Make, behind: Behind, change: str, how: str) -> None:
    c, a = client(), client(behind=dict(behind))
    a = client()
    a["k"] = b"old"
    written(a)
    lose(a)
    came, go = behind.stop("get")
    got: list[Any] = []
    read = {"get": lambda: c.get("k"), "get_or_set": lambda: c.get_or_set("k", lambda: b"made")}[how]
    thread = threading.Thread(target=lambda: got.append(read()))
    thread.start()
    assert came.wait(60)
    changes(a)[change]()
    go.set()
    thread.join()
    written(a, c)
    expected = b"new" if change == "set" else None
    assert got[0] in (b"old", b"made", expected)
    assert a.get("k") == c.get("k") == expected


def test_7_what_clears_waits_for_all(client: Make, behind: Behind) -> None:
    b, a = client(), client()
    came, go = behind.stop("set")
    b["k"] = b"old"
    assert came.wait(60)
    a.clear()
    a["after"] = b"after"
    assert "iter" not in kinds(behind)
    go.set()
    written(a, b)
    settled(a)
    lose(a)
    assert a.get("k") is None
    assert a["after"] == b"after"


def test_8_a_turn_that_is_asked_for_again(
    client: Make, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper gives a turn, and dies before it is heard."""
    from mvolatile.shared import queue
    from mvolatile.shared.wire import Op

    cache = client()
    ask = queue.Queue._ask  # noqa: SLF001
    asked: list[int] = []

    def ask_and_die(self: Any, request: Any) -> Any:
        reply = ask(self, request)
        asked.append(request.op)
        if request.op == Op.TURN and asked.count(Op.TURN) == 1:
            kill_keeper(cache)
            return ask(self, request)
        return reply

    monkeypatch.setattr(queue.Queue, "_ask", ask_and_die)
    cache["k"] = b"v"
    written(cache)
    settled(cache)
    assert cache["k"] == b"v"
    assert cache.cache_info().behind_hits == 1


def test_9_the_lease_of_who_failed_is_anothers(client: Make, behind: Behind) -> None:
    b, maker, heir = client(), client(), client()
    b["k"] = b"old"
    written(b)
    came, go = behind.stop("set")
    b["k"] = b"new"
    assert came.wait(60)
    lose(b)

    def fail() -> bytes:
        until(lambda: maker.keeper_info()["waiting"] == 1)
        raise LookupError

    def make() -> None:
        with pytest.raises(LookupError):
            maker.get_or_set("k", fail)

    thread = threading.Thread(target=make)
    thread.start()
    until(lambda: heir.keeper_info()["making"] == 1)
    assert heir.get_or_set("k", lambda: b"made") == b"made", "what is due behind is not believed"
    thread.join()
    go.set()
    written(b)
