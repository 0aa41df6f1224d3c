"""A child that was forked in C, whose Python hooks never ran, has a working cache: it waits for no thread it has not.

Each test has another thread of the parent hold what the child will want.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache import circles, fork, pressure
from mvolatile.cache.engine import engine_of
from support.c_fork import held_elsewhere, in_c_child
from support.processes import run_python

from .helpers import is_valid, purge, seal, told

pytestmark = pytest.mark.own_process


@pytest.fixture
def cache() -> Iterator[VolatileCache[Any, Any]]:
    cache: VolatileCache[Any, Any] = VolatileCache()
    for i in range(500):
        cache[i] = b"%d." % i * 20
    yield cache
    cache.close()


def goes_on(cache: VolatileCache[Any, Any]) -> None:
    assert cache.get(1) == b"1." * 20
    cache["new"] = bytes(100_000)
    assert cache["new"] == bytes(100_000)
    assert cache.get_or_set("made", lambda: 7) == 7
    del cache[2]
    cache.popitem()
    seal(cache)
    is_valid(cache)
    cache.close()
    cache.close()


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(lambda cache: engine_of(cache).change.lock, id="the cache's"),
        pytest.param(lambda cache: pressure._lock, id="the listener's"),
        pytest.param(lambda cache: circles.lock(), id="the calls'"),
    ],
)
def test_a_lock_that_a_thread_of_the_parent_holds(
    cache: VolatileCache[Any, Any], lock: Callable[[Any], Any]
) -> None:
    with held_elsewhere(lock(cache)):
        in_c_child(lambda: goes_on(cache))
    goes_on(cache)


def test_closing_and_dropping_come_first(cache: VolatileCache[Any, Any]) -> None:
    others: list[VolatileCache[Any, Any]] = [VolatileCache() for _ in range(2)]
    for other in others:
        other["k"] = b"v"

    def child() -> None:
        others.pop().close()
        others.clear()
        gc.collect()
        cache.close()
        assert threading.active_count() >= 1
        new: VolatileCache[str, bytes] = VolatileCache()
        new["k"] = b"v"
        assert new["k"] == b"v"
        new.close()

    in_c_child(child)
    for other in others:
        other.close()


def test_callbacks_of_losses() -> None:
    inside, leave = threading.Event(), threading.Event()
    keys: list[Any] = []

    def on_lost(lost: list[Any]) -> None:
        keys.extend(lost)
        inside.set()
        leave.wait()

    cache: VolatileCache[str, bytes] = VolatileCache(on_lost=on_lost)
    cache["one"] = b"1"
    purge(cache)
    assert cache.get("one") is None
    inside.wait()

    def child() -> None:
        leave.set()
        cache["two"] = b"2"
        purge(cache)
        assert cache.get("two") is None
        while keys != ["one", "two"]:  # `threading` still lists the thread that stayed in the parent
            time.sleep(0.001)

    in_c_child(child)
    leave.set()
    told(cache)
    assert keys == ["one"]
    cache.close()


def test_without_inheriting() -> None:
    cache: VolatileCache[str, bytes] = VolatileCache(inherit=False)
    cache["k"] = b"v"

    def child() -> None:
        assert cache.get("k") is None
        cache["k"] = b"w"
        assert dict(cache.items()) == {"k": b"w"}
        is_valid(cache)

    in_c_child(child)
    assert cache["k"] == b"v"
    cache.close()


def test_two_threads_of_the_child_start_over_once(
    cache: VolatileCache[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad schedule: one replaces a lock that the other has taken by then."""
    begun, go = threading.Event(), threading.Event()
    count = []

    def slowly() -> None:
        count.append(1)
        begun.set()
        go.wait()

    monkeypatch.setattr(fork, "_first", [slowly, *fork._first])

    def child() -> None:
        before = engine_of(cache).change.lock
        threads = [threading.Thread(target=cache.__setitem__, args=(i, i)) for i in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        assert engine_of(cache).change.lock is before
        go.set()
        for thread in threads:
            thread.join()
        assert len(count) == 1
        assert [cache[i] for i in range(4)] == [0, 1, 2, 3]
        is_valid(cache)

    in_c_child(child)


def test_an_interrupt_while_it_starts_over(
    cache: VolatileCache[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts = [KeyboardInterrupt]

    def interrupted() -> None:
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(fork, "_first", [interrupted, *fork._first])

    def child() -> None:
        with pytest.raises(KeyboardInterrupt):
            cache["k"] = 1
        goes_on(cache)

    with held_elsewhere(engine_of(cache).change.lock):
        in_c_child(child)


def test_a_child_of_a_child(cache: VolatileCache[Any, Any]) -> None:
    def child() -> None:
        cache["child"] = 1
        with held_elsewhere(engine_of(cache).change.lock):
            in_c_child(lambda: goes_on(cache))
        goes_on(cache)

    with held_elsewhere(engine_of(cache).change.lock):
        in_c_child(child)


def test_the_parent_is_told_of_pressure_still(cache: VolatileCache[Any, Any]) -> None:
    before = pressure._thread

    def child() -> None:
        cache["child"] = 1
        assert pressure._thread is not before or before is None
        cache.close()

    in_c_child(child)
    assert pressure._thread is before
    assert before is None or before.is_alive()


def test_the_fork_is_seen_before_the_first_memory() -> None:
    """Counting begins with the import, not with the first memory."""
    from support.processes import run_python

    def child() -> None:
        import os

        from mvolatile import _core
        from support.c_fork import c_fork

        before = _core.forks()
        if (pid := c_fork()) == 0:
            os._exit(_core.forks() - before)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1

    run_python(child).check()


def test_beside_a_thread_that_is_told_of_pressure_all_the_time(tmp_path: Path) -> None:
    """Bad schedule: that thread waits for Python's lock, which the thread that forks holds; the child gives way to it
    for ever once it starts a thread of its own, or has run for some milliseconds.
    """

    def child(fifo: str) -> None:
        import os
        import threading

        import mvolatile as mv
        from support.c_fork import in_c_child

        feed = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        os.set_blocking(feed, False)
        over = threading.Event()
        writer = os.fork()
        if writer == 0:
            parent = os.getppid()
            while os.getppid() == parent:
                try:
                    os.write(feed, b"x")
                except BlockingIOError:
                    over.wait(0.0002)
            os._exit(0)
        cache = mv.VolatileCache()
        cache["k"] = b"v"

        def store() -> None:
            cache["k"] = b"of the child"
            assert sum(range(200_000)) > 0
            assert cache["k"] == b"of the child"
            cache.close()

        for _ in range(50):
            in_c_child(store)
        os.kill(writer, 9)
        os.waitpid(writer, 0)

    fifo = tmp_path / "pressure"
    os.mkfifo(fifo)
    run_python(child, str(fifo), env={"MEMORY_PRESSURE_WATCH": str(fifo)}).check()
