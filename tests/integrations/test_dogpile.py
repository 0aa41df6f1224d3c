"""dogpile.cache's backends: what its own suites do not ask, and the lock among processes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dogpile.cache", reason="make integrations installs it")

from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE, CachedValue

import mvolatile as mv
from mvolatile.integrations.dogpile import Mutex
from mvolatile.integrations.filelock import FileLock
from support.keepers import in_child, until

WHICH: dict[str, dict[str, Any]] = {"mvolatile.memory": {}, "mvolatile.shared": {"name": "site"}}


@pytest.fixture(params=WHICH)
def region(request: pytest.FixtureRequest, closing: None) -> CacheRegion:
    return make_region().configure(request.param, arguments=WHICH[request.param])


@pytest.fixture
def lock(tmp_path: Path) -> FileLock:
    return FileLock(tmp_path / "lock", "k")


def test_values_come_back_and_are_the_callers_own(region: CacheRegion) -> None:
    region.set("k", {"list": [1], "none": None})
    got: Any = region.get("k")
    got["list"].append(2)
    assert region.get("k") == {"list": [1], "none": None}
    region.set("none", None)
    assert region.get("none") is None
    assert region.get("nobody") is NO_VALUE
    assert isinstance(region.backend.get("k"), CachedValue)
    many: Any = region.get_multi
    assert many(["k", "nobody"]) == [{"list": [1], "none": None}, NO_VALUE]
    region.delete_multi(["k", "nobody"])
    assert region.get("k") is NO_VALUE


def test_what_the_kernel_took_is_made_anew(region: CacheRegion) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"x" * 100_000

    assert region.get_or_create("k", make) == region.get_or_create("k", make)
    assert len(made) == 1
    region.backend.volatile.clear()  # as if it had
    assert region.get_or_create("k", make) == b"x" * 100_000
    assert len(made) == 2


def test_what_does_not_pickle_raises_what_pickle_raises(region: CacheRegion) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        region.set("k", lambda: None)


def test_arguments(closing: None, runtime: Path) -> None:
    region = make_region().configure(
        "mvolatile.memory", arguments={"name": "rows", "max_bytes": 1 << 20, "ttl": 60}
    )
    cache = region.backend.volatile
    assert cache.name == "rows"
    region.set("k", 1)
    assert 0 < cache.ttl("k") <= 60
    region.set("k", b"x" * (2 << 20))
    assert region.get("k") is NO_VALUE, "too large, and no error"
    make_region().configure("mvolatile.memory", arguments={"another_backends": "argument"})
    with pytest.raises(TypeError, match="needs an argument name"):
        make_region().configure("mvolatile.shared")
    with pytest.raises(ValueError, match="1 to 64 letters"):
        make_region().configure("mvolatile.shared", arguments={"name": "a/b"})
    region = make_region().configure_from_config(
        {"c.backend": "mvolatile.shared", "c.arguments.name": "site", "c.expiration_time": 5}, "c."
    )
    assert isinstance(region.backend.volatile, mv.SharedCache)


def test_a_regions_own_serializer(closing: None) -> None:
    import json

    region = make_region(serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    region.configure("mvolatile.memory")
    region.set("k", [1, 2])
    assert region.get("k") == [1, 2]
    assert b"[1, 2]" in region.backend.volatile["k"]


def test_processes_make_a_value_once(closing: None, runtime: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.touch()
    region = make_region().configure("mvolatile.shared", arguments={"name": "site"})

    def make() -> str:
        with made.open("a") as file:
            file.write("x")
        time.sleep(0.1)
        return "value"

    pids = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            os._exit(0 if region.get_or_create("k", make) == "value" else 1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert made.read_text() == "x"


def test_a_mutex_of_the_region(closing: None, runtime: Path) -> None:
    region = make_region().configure("mvolatile.shared", arguments={"name": "site"})
    mutex = region.backend.get_mutex("k")
    assert isinstance(mutex, Mutex)
    assert mutex.acquire()
    assert region.backend.get_mutex("k").acquire(wait=False) is False
    assert region.backend.get_mutex("other").locked() is False
    assert region.key_is_locked("k")
    mutex.release()
    assert not region.key_is_locked("k")
    assert (runtime / "site.dogpile").stat().st_mode & 0o077 == 0


def test_threads_take_turns_with_one_lock(lock: FileLock) -> None:
    inside = threading.Lock()

    def work(_: int) -> None:
        for _ in range(20):
            lock.acquire()
            assert inside.acquire(blocking=False)
            inside.release()
            lock.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert lock.locked() is False


def test_a_lock_ends_with_its_process(lock: FileLock) -> None:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        lock.acquire()
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    assert lock.locked()
    os.kill(pid, signal.SIGKILL)
    assert lock.acquire()
    lock.release()
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_a_child_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    """The parent is killed while a child that it forked under the lock lives on."""
    read, write = os.pipe()
    ends, end = os.pipe()
    if (pid := os.fork()) == 0:
        lock = FileLock(tmp_path / "lock", "k")
        lock.acquire()
        if os.fork() == 0:
            os.close(end)
            lock.release()  # which is not this process's to release
            os.write(write, b"%d" % lock.acquire(wait=False))
            os.read(ends, 1)  # until the test ends
            os._exit(0)
        signal.pause()
    assert os.read(read, 1) == b"0", "the parent has it still"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    lock = FileLock(tmp_path / "lock", "k")
    until(lambda: lock.acquire(wait=False))
    lock.release()
    for descriptor in (read, write, ends, end):
        os.close(descriptor)


def test_a_program_that_closes_all_descriptors_keeps_its_own(lock: FileLock, tmp_path: Path) -> None:
    def child() -> None:
        lock.acquire()
        highest = max(map(int, os.listdir("/proc/self/fd")))
        os.closerange(3, highest + 1)
        mine = [os.open(tmp_path / "mine", os.O_RDWR | os.O_CREAT) for _ in range(highest + 1)]
        lock.release()
        for descriptor in mine:
            os.fstat(descriptor)
        assert lock.acquire()
        lock.release()

    in_child(child)


def test_releasing_what_is_not_held(lock: FileLock) -> None:
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    assert lock.locked() is False


def test_threads_that_meet_at_a_descriptors_number(tmp_path: Path) -> None:
    """What one closes another opens at once: no lock is held for ever, and no descriptor left."""
    locks = [FileLock(tmp_path / "locks", str(number)) for number in range(4)]

    def work(number: int) -> None:
        for _ in range(1000):
            locks[number].acquire()
            locks[number].release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert not any(lock.locked() for lock in locks)
