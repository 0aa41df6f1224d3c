"""Of descriptors, of memory, of room for files, on either side: what was overwritten is not read again, what can be
made is returned, and all is well again afterwards.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import mvolatile.shared.connection as connection
from mvolatile import SharedCache, VolatilityWarning
from support.keepers import end_keepers, in_child, keeper_pid, until
from support.processes import run_python

Cache = SharedCache[Any, Any]
Make = Callable[..., Cache]


@contextmanager
def limited(pid: int, what: int, most: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Of this process's; for a child, which has no other use for them."""
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    yield
    for one in taken:
        os.close(one)


def _keeper(cache: Cache) -> int:
    pid = keeper_pid(cache.name)
    assert pid is not None
    return pid


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_room_for_the_directory(runtime: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The temporary directory is full, or all of the container is read-only. Once it is not, values are stored."""
    monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", str(runtime / "new"))

    def refused(path: object, mode: int = 0) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refused)
        cache: Cache = SharedCache("test", linger=0)
        with pytest.warns(VolatilityWarning, match=f"nothing is stored.*{os.strerror(number)}"):
            cache["a"] = 1
        assert cache.get("a") is None
        assert cache.get_or_set("a", lambda: 2) == 2
        assert not cache.delete_many(["a"])
        assert cache.keeper_info() == {}
        cache.clear()
    until(lambda: cache.set("a", 3) or cache.get("a") == 3)
    cache.close()
    end_keepers(runtime / "new")


def test_a_keeper_without_descriptors(cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It turns new clients away. Those it has go on, and read nothing that a new one would have overwritten."""
    monkeypatch.setattr(connection, "PATIENCE", 200)
    monkeypatch.setattr(connection, "ENDING", 0)
    cache["a"] = b"old"
    assert cache["a"] == b"old"
    other, pid = make(), _keeper(cache)
    until(
        lambda: cache.keeper_info()["connections"] == 2
    )  # the one that asked for its number has been let go
    taken = {int(one) for one in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = min(set(range(len(taken) + 1)) - taken)  # those that were let go of leave holes
    with limited(pid, resource.RLIMIT_NOFILE, lowest_free):
        with pytest.warns(VolatilityWarning, match="turns this process away"):
            assert other.get("a") is None
        assert other.get_or_set("b", lambda: 5) == 5
        for change in (
            lambda: other.set("a", b"new"),
            lambda: other.add("c", b"new"),
            lambda: other.delete_many(["a"]),
            other.clear,
        ):
            with pytest.raises(TimeoutError, match="does not answer"):
                change()
        cache["b"] = 2
        assert (cache["a"], cache["b"]) == (b"old", 2)
    other["a"] = b"new"
    assert cache["a"] == other["a"] == b"new"
    assert _keeper(cache) == pid


@pytest.mark.parametrize("attached", [False, True])
def test_a_client_without_descriptors(cache: Cache, make: Make, attached: bool) -> None:
    cache["a"] = b"value"
    other = make()

    def child() -> None:
        if attached:
            assert other["a"] == b"value"
        with no_descriptor_left():
            if attached:
                assert other.get("a") == b"value"
            else:
                with pytest.warns(VolatilityWarning, match="a miss: .*Too many open files"):
                    assert other.get("a") is None
                assert other.here().refused
            with pytest.warns(VolatilityWarning):
                assert other.get_or_set("b", lambda: 5) == 5
            assert len(other.get_or_set("c", lambda: bytes(50_000))) == 50_000
        assert other["a"] == b"value"
        other["b"] = 6
        assert other["b"] == 6

    in_child(child)
    assert cache["b"] == 6


@pytest.mark.parametrize("what", ["get", "get_or_set", "set", "function"])
@pytest.mark.parametrize("most", [5, 9, 12])
def test_a_limit_that_no_keeper_can_live_with(runtime: Path, what: str, most: int) -> None:
    """`ulimit -n`, which a keeper inherits: here none begins, ends at once, or turns all away. One warning says so."""

    def program(what: str, most: int) -> None:
        import resource
        import warnings

        import mvolatile as mv

        function: Any = mv.volatile_cache(shared="test")(lambda key: key)
        cache = function.cache
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        use: Any = {
            "get": lambda key: cache.get_or_set(key, lambda: 1) and cache.get(key),
            "get_or_set": lambda key: cache.get_or_set(key, lambda: 1),
            "set": lambda key: cache.set(key, 1),
            "function": function,
        }[what]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                use("a")
        assert ["nothing is stored: [Errno" in str(one.message) for one in told] == [True], told
        assert cache.here().refused >= 2

    run_python(program, what, most).check()
    (runtime / "log").unlink(missing_ok=True)  # the keeper's own error


def test_a_keeper_without_addresses(cache: Cache) -> None:
    """What is new is stored in place of what is older."""
    cache["a"] = 1
    pid = _keeper(cache)
    now = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    with limited(pid, resource.RLIMIT_AS, now + (8 << 20)):  # a stack must have room to grow
        for i in range(120):
            cache[i] = bytes([i]) * (1 << 20)
        assert cache[119] == bytes([119]) * (1 << 20)
        assert len(cache) < 121
        for i in range(120, 256):
            cache[i] = bytes([i]) * 30_000
        assert len(list(cache)) > 1
        for key, value in cache.items():
            assert key == "a" or value in (bytes([key]) * (1 << 20), bytes([key]) * 30_000)
    assert _keeper(cache) == pid


def _own_mounts(argv: Any) -> list[str]:
    return ["unshare", "--mount", "--propagation", "private", *argv]


@pytest.fixture
def _mounts() -> None:
    if subprocess.run(_own_mounts(["true"]), capture_output=True).returncode:
        pytest.skip("no mount namespace is to be had")


@pytest.mark.usefixtures("_mounts")
def test_shared_memory_that_is_full(runtime: Path) -> None:
    """64 MiB of /dev/shm in Docker: nothing of ours is there."""

    def program() -> None:
        import subprocess

        from mvolatile import SharedCache

        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none", "/dev/shm"], check=True)
        with SharedCache("test", linger=0) as cache:
            for i in range(20):
                cache[i] = bytes(1 << 20)
            assert all(cache[i] == bytes(1 << 20) for i in range(20))

    run_python(program, wrap=_own_mounts).check()


@pytest.mark.usefixtures("_mounts")
def test_no_room_for_a_socket(runtime: Path) -> None:
    """Nothing is stored, one warning says so, and what can be made is returned."""

    def program() -> None:
        import os
        import subprocess
        import warnings

        from mvolatile import SharedCache, VolatilityWarning

        place = os.environ["MVOLATILE_RUNTIME_DIR"]
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=700", "none", place], check=True
        )
        with warnings.catch_warnings(record=True) as told, SharedCache("test") as cache:
            warnings.simplefilter("always")
            for _ in range(2):
                cache["a"] = 1
                assert cache.get("a") is None
                assert cache.get_or_set("b", lambda: 5) == 5
                assert not cache.delete_many(["a"])
                cache.clear()
                assert list(cache) == []
        assert [one.category for one in told] == [VolatilityWarning]

    run_python(program, wrap=_own_mounts).check()
