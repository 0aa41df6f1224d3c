"""The keeper's life: it starts once, lingers, hangs and dies."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, cast

import pytest

import mvolatile.shared.connection as connection
from mvolatile import SharedCache
from mvolatile._core import Table
from mvolatile.shared import keys
from mvolatile.shared.place import Place
from mvolatile.shared.wire import Flag, Op, Request
from support.keepers import is_free, keeper_pid, kill_keeper, until
from support.processes import command

Cache = SharedCache[Any, Any]
Make = Callable[..., Cache]


def test_it_lingers_and_ends(make: Make, runtime: Path) -> None:
    cache = make(linger=0.2)
    cache["a"] = 1
    cache.close()
    again = make(linger=0.2)
    assert again["a"] == 1
    again.close()
    until(lambda: is_free(Place("test").path("lock")))
    assert not Place("test").path("sock").exists()
    new = make()
    assert new.get("a") is None
    assert keeper_pid("test") is None
    new["a"] = 2
    assert new["a"] == 2


def test_many_first_clients_start_one_keeper(runtime: Path) -> None:
    """16."""
    program = """
    import sys
    from mvolatile import SharedCache
    cache = SharedCache("test")
    cache[sys.argv[1]] = 1
    print(cache.keeper_info()["pid"])
    """
    first = [
        subprocess.Popen([*command(program), str(i)], stdout=subprocess.PIPE, text=True) for i in range(6)
    ]
    said = {one.communicate(timeout=200)[0].strip() for one in first}
    assert said == {str(keeper_pid("test"))}


def test_a_keeper_that_ends_while_clients_connect(make: Make) -> None:
    """16, the other half: none of the stores is lost on the way, whichever keeper hears it."""
    for _ in range(15):
        cache = make(linger=0)
        cache["a"] = 1
        assert cache.get("a") == 1
        pid = keeper_pid("test")
        cache.close()
        other = make(linger=0)
        other["b"] = 2
        assert other["b"] == 2
        assert pid is not None
        other.close()


def test_a_stopped_keeper_is_killed(cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """32: what it cannot be told to forget is forgotten."""
    monkeypatch.setattr(connection, "PATIENCE", 300)
    other = make()
    cache["a"] = b"old"
    assert other["a"] == b"old"
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert other["a"] == b"old"  # nobody changed it
    assert not cache.delete_many(["a"])
    assert other.get("a") is None
    cache["a"] = b"new"
    assert other["a"] == b"new"
    assert keeper_pid("test") != pid


def test_a_stopped_keeper_that_may_not_be_killed(
    cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32: another pid namespace's. What it cannot be told is no success: others read the old value still."""
    monkeypatch.setattr(connection, "PATIENCE", 50)
    monkeypatch.setattr(connection, "ENDING", 0.2)
    monkeypatch.setattr(connection, "end_hung", lambda channel: None)
    other = make()
    cache["a"] = b"old"
    assert other["a"] == b"old"
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for change in (
        lambda: cache.set("a", b"new"),
        lambda: cache.delete_many(["a"]),
        cache.clear,
        lambda: cache.touch("a", 5),
    ):
        with pytest.raises(TimeoutError):
            change()
    assert other["a"] == b"old"
    os.kill(pid, signal.SIGCONT)
    until(lambda: other.get("a") in (None, b"new"))  # it hears then what it was told


def test_a_store_that_was_given_up_comes_before_the_next(
    cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """33: it waits at the keeper still, in a connection that is closed, when the next one comes in another."""
    monkeypatch.setattr(connection, "ENDING", 0.0)
    monkeypatch.setattr(connection, "end_hung", lambda channel: None)
    other = make()
    for i in range(10):
        cache["a"] = b"old"
        pid = keeper_pid("test")
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(connection, "PATIENCE", 20)
        with pytest.raises(TimeoutError):
            cache["a"] = b"given up"
        monkeypatch.setattr(connection, "PATIENCE", 100_000)
        thread = threading.Thread(target=cache.set, args=("a", b"new %d" % i))
        thread.start()
        os.kill(pid, signal.SIGCONT)
        thread.join(100)
        assert other["a"] == b"new %d" % i
    assert until(lambda: cache.keeper_info()["connections"] <= 5)
    assert other["a"] == b"new 9"


def test_requests_are_heard_as_they_came(cache: Cache) -> None:
    """33, where the next one comes over a connection that was heard just before, while the keeper was busy with a third
    client's: level-triggered, that one stayed in the queue, before the one that was given up.
    """
    key = keys.encode("a")
    cache["a"] = b"first"
    pid = keeper_pid("test")
    assert pid is not None
    given_up, used, large = (_line() for _ in range(3))
    assert large.with_mailbox(64 << 20) is not None

    def provoked() -> bool:
        os.kill(pid, signal.SIGSTOP)
        used.channel.send(Request(Op.FETCH, key).packed())
        large.channel.send(
            Request(Op.STORE, b"large", length=64 << 20, seconds=inf, flags=Flag.IN_MAILBOX).packed()
        )
        os.kill(pid, signal.SIGCONT)
        assert used.channel.receive(60_000)
        given_up.channel.send(Request(Op.STORE, key, b"old", length=3, seconds=inf).packed())
        used.channel.send(Request(Op.STORE, key, b"new", length=3, seconds=inf).packed())
        was_busy = large.channel.receive(0) is False
        assert was_busy is False or large.channel.receive(60_000)
        assert used.channel.receive(60_000)
        assert given_up.channel.receive(60_000)
        return was_busy

    try:
        until(provoked)
        assert cache["a"] == b"new"
    finally:
        for line in (given_up, used, large):
            line.channel.close()


def test_no_version_is_another_keepers(cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """38: the keeper dies between a reading and the change that depends on it."""
    cache["a"] = 1
    other = make()
    read = cache._access.entry

    def read_and_died(key: Any) -> Any:
        monkeypatch.setattr(cache._access, "entry", read)
        found = read(key)
        kill_keeper(cache)
        other["a"] = 10
        return found

    monkeypatch.setattr(cache._access, "entry", read_and_died)
    assert cache.incr("a") == 11
    assert other["a"] == 11


def _line() -> connection.Line:
    channel = Place("test").connect()
    assert channel is not None
    line = connection.Line(channel)
    assert line.hello() is not None
    return line


def test_sigterm_ends_it_cleanly(cache: Cache) -> None:
    cache["a"] = 1
    pid = keeper_pid("test")
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    until(lambda: is_free(Place("test").path("lock")))
    assert not Place("test").path("sock").exists()
    assert cache.get("a") is None
    cache["a"] = 2
    assert cache["a"] == 2


def test_a_keeper_whose_directory_was_emptied_ends(cache: Cache, runtime: Path) -> None:
    cache["a"] = 1
    pid = keeper_pid("test")
    process = os.pidfd_open(cast(int, pid))
    for path in runtime.glob("test.*"):
        path.unlink()
    import select

    assert select.select([process], [], [], 200)[0]
    os.close(process)
    cache["a"] = 2
    assert cache["a"] == 2


def test_the_keeper_inherits_nothing(cache: Cache, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        os.set_inheritable(file.fileno(), True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            cache["a"] = 1
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        pid = keeper_pid("test")
        files = []
        for one in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # the connection that asked for its number is let go meanwhile
                files.append(os.readlink(f"/proc/{pid}/fd/{one}"))
        assert not any(str(tmp_path) in one for one in files)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(cast(int, pid)) not in (os.getsid(0), 0)
        status = Path(f"/proc/{pid}/status").read_text()
        assert "SigBlk:\t0000000000000000" in status


def test_another_thread_is_attaching(cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """37: the keeper has died, and a thread of this process is about to have the next one's table. Until then the
    dead one's, which has not the key, is nobody's word that there is no value: `get_or_set` made one beside it.
    """
    cache["old"] = 1
    assert cache["old"] == 1
    kill_keeper(cache)
    make()["new"] = b"stored"
    attaching, found = threading.Event(), threading.Event()
    real = Table

    def late(*given: Any) -> Any:
        attaching.set()
        found.wait(0.5)  # who finds waits for us: as long as who is not to wait needs
        return real(*given)

    monkeypatch.setattr(connection, "Table", late)
    first = threading.Thread(target=cache.get, args=("old",))
    first.start()
    assert attaching.wait(60)
    got = cache.get("new"), cache.get_or_set("new", lambda: b"made")
    found.set()
    first.join()
    assert got == (b"stored", b"stored")
