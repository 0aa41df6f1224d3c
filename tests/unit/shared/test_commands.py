"""``mvolatile keep``, ``status --shared``, and what the doctor says; and a real seccomp filter."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mvolatile import SharedCache
from mvolatile.cli import main
from support.keepers import keeper_pid, until
from support.processes import run_python

Cache = SharedCache[Any, Any]


def test_keep_in_the_foreground(
    make: Callable[..., Cache], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(200)
    command = [sys.executable, "-m", "mvolatile", "keep", "test", "--max-bytes", "1MiB"]
    with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as keeper:
        assert notified.recv(100) == b"READY=1"
        cache = make()
        cache["a"] = 1
        assert keeper_pid("test") == keeper.pid
        assert Path(f"/proc/{keeper.pid}/comm").read_text() == "mvolatile:test\n"
        assert cache.keeper_info()["max_bytes"] == 1 << 20
        assert main(["keep", "test"]) == 1
        assert "there is a keeper already" in capsys.readouterr().err
        keeper.send_signal(signal.SIGTERM)
        assert notified.recv(100) == b"STOPPING=1"
        assert keeper.wait(200) == 0
    notified.close()
    with pytest.raises(SystemExit):
        main(["keep", "a/b"])
    assert cache.get("a") is None


def test_status_lists_keepers(make: Callable[..., Cache], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--shared"]) == 0
    assert "No keeper" in capsys.readouterr().out
    one, two = make("one"), make("two")
    one["a"], two["b"] = 1, bytes(1 << 20)
    one.get("a")
    one.get("c")
    assert main(["status", "--shared", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in told] == ["one", "two"]
    assert (told[0]["clients"], told[0]["entries"], told[0]["hits"], told[0]["misses"]) == (1, 1, 1, 1)
    assert told[1]["bytes"] > 1 << 20
    assert main(["status", "--shared"]) == 0
    assert "two" in capsys.readouterr().out


def test_the_doctor_says_how_values_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shared_read"]["way"] == "readv"
    monkeypatch.setenv("MVOLATILE_SHARED_READ", "message")
    assert main(["doctor"]) == 0
    assert "message: MVOLATILE_SHARED_READ" in capsys.readouterr().out


def test_keep_where_nobody_hears_that_it_is_ready(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "mvolatile", "keep", "x", "--linger", "0"]
    environment = {**os.environ, "NOTIFY_SOCKET": str(runtime / "nobody")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0
    assert done.stderr.count("nobody: No such file or directory; nobody was told") == 2
    assert "Traceback" not in done.stderr


def test_where_a_filter_refuses_the_call(cache: Cache) -> None:
    """In the client alone: what it gets comes by messages; and in the keeper, too."""
    cache["a"], cache["large"] = b"value", bytes(range(256)) * 1000

    def client(name: str) -> None:
        from mvolatile import SharedCache
        from mvolatile.shared.survey import way
        from support import seccomp

        seccomp.refuse(310 if __import__("platform").machine() == "x86_64" else 270)
        assert way()[0] == "message", way()
        assert "seccomp" in way()[1]
        with SharedCache(name, linger=0) as cache:
            if name == "test":
                assert cache["a"] == b"value"
                assert cache["large"] == bytes(range(256)) * 1000
            for i in range(100):
                cache[i] = bytes(i * 1000)
            assert all(cache[i] == bytes(i * 1000) for i in range(100))
            assert 99 in cache
            assert len(list(cache)) >= 100
            assert cache.purge() > 0
            assert sum(i in cache for i in range(100)) < 50
            assert cache.incr("n", default=0) == 1
            assert cache.get_or_set("made", lambda: 5) == 5

    run_python(client, "test").check()
    run_python(client, "inherited").check()  # it starts the keeper, which has the filter, too
    assert until(lambda: keeper_pid("inherited") is None)


def test_where_a_filter_refuses_sockets(cache: Cache) -> None:
    """What can be made is returned, what is to be changed raises, and warnings say why."""
    cache["a"] = 1

    def client() -> None:
        import platform
        import warnings

        import pytest

        import mvolatile as mv
        from support import seccomp

        function: Any = mv.volatile_cache(shared="test")(lambda key: key)
        seccomp.refuse(41 if platform.machine() == "x86_64" else 198)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert function(1) == function(1) == 1
            assert function.cache.get("a") is None
        assert len(told) == 2
        assert all("sockets are refused here" in str(one.message) for one in told)
        for change in (lambda: function.cache.set("a", 2), lambda: function.cache.delete_many(["a"])):
            with pytest.raises(
                OSError, match="sockets are refused here"
            ):  # others read the older value still
                change()

    run_python(client).check()
    assert cache["a"] == 1


def test_where_the_container_refuses_userfaultfd(runtime: Path) -> None:
    def client() -> None:
        from mvolatile import SharedCache
        from support import seccomp

        seccomp.apply_container_rules()
        with SharedCache("contained", linger=0) as cache:
            for i in range(100):
                cache[i] = bytes(i * 1000)
            assert all(cache[i] == bytes(i * 1000) for i in range(100))
            assert not cache._access.connections.by_message
            assert cache.purge() > 0
            kept = [i for i in range(100) if cache.get(i) is not None]
            assert len(kept) < 50
            assert all(cache[i] == bytes(i * 1000) for i in kept)

    run_python(client).check()
