"""Who waits for another's making gets a value of his own, an exception of his own, or makes it himself."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache import circles, singleflight
from mvolatile.cache.engine import engine_of
from support.waiting import await_waiters

from .helpers import in_child

WAITERS = 4


def burst(ask: Callable[[], Any]) -> list[Any]:
    """What the maker and all that wait for it get."""
    with ThreadPoolExecutor(WAITERS + 1) as pool:
        return [done.result() for done in [pool.submit(ask) for _ in range(WAITERS + 1)]]


def made_while_all_wait(make: Callable[[], Any], runs: list[int]) -> Callable[[], Any]:
    def making() -> Any:
        if not runs:
            runs.append(1)
            await_waiters(WAITERS)
        else:
            runs.append(1)
        return make()

    return making


@pytest.mark.parametrize(
    "kind", ["stored", "too large", "not to be stored", "of no time", "deleted meanwhile"]
)
def test_each_has_a_list_of_his_own(kind: str) -> None:
    runs: list[int] = []
    cache: VolatileCache[str, Any] = VolatileCache(max_bytes=20 if kind == "too large" else None)
    every: dict[str, dict[str, Any]] = {
        "not to be stored": {"condition": lambda value: False},
        "of no time": {"ttl": 0},
    }
    terms = every.get(kind, {})

    def make() -> Any:
        if kind == "deleted meanwhile":
            cache.delete_many(["k"])
        return [["home"], "x" * 30]

    making = made_while_all_wait(make, runs)
    got = burst(lambda: cache.get_or_set("k", making, **terms))
    assert runs == [1]
    for value in got:
        value[0].append("mine")
    assert got == [[["home", "mine"], "x" * 30]] * (WAITERS + 1)
    info = cache.cache_info()
    assert (info.hits, info.misses) == (WAITERS, 1)
    assert ("k" in cache) == (kind == "stored")
    if kind == "stored":
        assert cache["k"] == [["home"], "x" * 30]


def test_what_cannot_be_laid_out_each_makes_for_himself() -> None:
    runs: list[int] = []

    @volatile_cache
    def opened() -> Any:
        return making()

    making = made_while_all_wait(lambda: threading.Lock(), runs)
    with pytest.warns(match="could not store"):
        got = burst(opened)
    assert len({id(value) for value in got}) == WAITERS + 1 == len(runs)
    assert opened.cache_info()[:2] == (0, WAITERS + 1)


def test_tasks_have_their_own_too() -> None:
    runs: list[int] = []

    @volatile_cache
    async def menu() -> list[str]:
        runs.append(1)
        while len(circles.waiting) < WAITERS:
            await asyncio.sleep(0)
        return ["home"]

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(menu() for _ in range(WAITERS + 1)))

    got = asyncio.run(main())
    for value in got:
        value.append("mine")
    assert got == [["home", "mine"]] * (WAITERS + 1)
    assert runs == [1]
    assert menu.cache_info()[:2] == (WAITERS, 1)


def test_what_is_lost_at_once_is_not_made_one_after_the_other() -> None:
    """Each value is gone before anybody who waited for it looks: then all make it together, not each in its turn."""
    cache: VolatileCache[str, bytes] = VolatileCache()
    together = threading.Semaphore(0)
    runs: list[int] = []

    def make() -> bytes:
        runs.append(1)
        if len(runs) <= singleflight.TRIES:
            call = engine_of(cache).calls["k"]
            while len(call.waiters) < WAITERS + 1 - len(runs):
                threading.Event().wait(0.001)
        else:  # none of these is waited for by the others
            together.release()
            while together._value < WAITERS + 1 - singleflight.TRIES:
                threading.Event().wait(0.001)
        return b"value"

    real = engine_of(cache).store_made

    def lost_at_once(key: Any, value: Any, terms: Any, call: Any) -> bool:
        fit = real(key, value, terms, call)
        engine_of(cache).holds = lambda key: True  # type: ignore[method-assign]
        engine_of(cache).change(engine_of(cache).store.remove, key, None, "deleted")
        return fit

    engine_of(cache).store_made = lost_at_once  # type: ignore[method-assign]
    assert burst(lambda: cache.get_or_set("k", make)) == [b"value"] * (WAITERS + 1)
    assert len(runs) == WAITERS + 1


class RefusedError(Exception):
    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


class NoFileError(OSError):
    def __init__(self, *, why: str) -> None:
        super().__init__(2, why)


SHARED = SlottedError | NoFileError
ERRORS: list[Any] = [
    LookupError("no"),
    OSError(2, "no"),
    RefusedError(5, why="no"),
    SlottedError(5, why="no"),
    NoFileError(why="no"),
    ExceptionGroup("no", [ValueError()]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_exceptions_are_each_ones_own(error: Exception) -> None:
    """Where they can be copied: raising writes to the traceback, and who catches may add a note."""
    cause = KeyError("cause")

    def fail() -> Any:
        await_waiters(WAITERS)
        raise error from cause

    cache: VolatileCache[str, Any] = VolatileCache()

    def ask() -> Exception:
        try:
            cache.get_or_set("k", fail)
        except Exception as caught:
            return caught
        raise AssertionError

    caught = burst(ask)
    assert {type(one) for one in caught} == {type(error)}
    assert {str(one) for one in caught} == {str(error)}
    assert all(one.__cause__ is cause and one.__suppress_context__ for one in caught)
    assert all("in fail" in "".join(traceback.format_exception(one)) for one in caught), "where it came from"
    assert all(getattr(one, "code", None) == getattr(error, "code", None) for one in caught)
    assert all(getattr(one, "errno", None) == getattr(error, "errno", None) for one in caught)
    assert len({id(one) for one in caught}) == (1 if isinstance(error, SHARED) else WAITERS + 1)
    info = cache.cache_info()
    assert (info.hits, info.misses) == (0, WAITERS + 1)


@pytest.mark.parametrize("error", [ERRORS[0], ERRORS[2]], ids=lambda error: type(error).__name__)
def test_notes_are_each_ones_own(error: Exception) -> None:
    """Also those of the maker's caller, who catches it while the others still come to look at it."""

    def fail() -> Any:
        await_waiters(WAITERS)
        raise error

    cache: VolatileCache[str, Any] = VolatileCache()
    error.add_note("of its function")

    def ask() -> list[str]:
        try:
            cache.get_or_set("k", fail)
        except Exception as caught:
            caught.add_note(str(threading.get_ident()))
            return caught.__notes__
        raise AssertionError

    told = burst(ask)
    assert all(len(one) == 2 and one[0] == "of its function" for one in told), told
    assert len({one[1] for one in told}) == WAITERS + 1


class Heavy:
    """Something large that a function has while it raises."""


@pytest.mark.parametrize("way", ["a thread", "a task"])
def test_an_exception_keeps_nothing_alive(way: str) -> None:
    """Without the collector's help: its traceback has our frames, which must not have it."""
    there: list[weakref.ref[Heavy]] = []

    def fail() -> None:
        heavy = Heavy()
        there.append(weakref.ref(heavy))
        raise LookupError("no")

    async def afail() -> None:
        fail()

    cache: VolatileCache[str, Any] = VolatileCache()
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(LookupError) as raised:
            if way == "a thread":
                cache.get_or_set("k", fail)
            else:
                cache.aget_or_set("k", afail).send(None)  # a task of asyncio has a circle of its own
        del raised
        assert there[0]() is None
    finally:
        gc.enable()


def test_hits_and_misses_are_all_calls() -> None:
    runs: list[int] = []
    making = made_while_all_wait(lambda: 42, runs)
    cached = volatile_cache(maxsize=1, ttl=3600)(making)
    assert burst(cached) == [42] * (WAITERS + 1)
    assert cached.cache_info() == (WAITERS, 1, 1, 1)
    assert cached() == 42
    assert cached.cache_info() == (WAITERS + 1, 1, 1, 1)


def test_an_interrupted_waiter_leaves_nothing() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()
    began, go_on = threading.Event(), threading.Event()

    def make() -> int:
        began.set()
        go_on.wait()
        return 1

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        maker = pool.submit(cache.get_or_set, "k", make)
        began.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mvolatile.cache.singleflight.threading.Event", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                cache.get_or_set("k", make)
        (call,) = engine_of(cache).calls.values()
        assert not circles.waiting
        assert not call.waiters
        go_on.set()
        assert maker.result() == 1


def test_a_fork_that_python_is_not_told_of() -> None:
    """As uWSGI forks. A thread of the parent makes the value, and never will in the child; it may have our lock."""
    import ctypes

    libc = ctypes.PyDLL(None)
    cache: VolatileCache[str, Any] = VolatileCache()
    began, go_on = threading.Event(), threading.Event()

    def make() -> int:
        with circles.lock():
            began.set()
            go_on.wait()
        return 1

    thread = threading.Thread(target=cache.get_or_set, args=("k", make))
    thread.start()
    began.wait()
    pid = libc.fork()
    if pid == 0:
        try:
            import signal

            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(100)
            os._exit(0 if cache.get_or_set("k", lambda: 2) == 2 and cache["k"] == 2 else 3)
        finally:
            os._exit(4)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache["k"] == 1


def test_a_fork_within_a_making_goes_on_in_both() -> None:
    cache: VolatileCache[str, Any] = VolatileCache()

    def child() -> None:
        assert cache.get_or_set("k", lambda: "inner") == "inner", "its own maker does not wait for itself"

    def make() -> str:
        in_child(child)
        return "outer"

    assert cache.get_or_set("k", make) == "outer"
    assert cache["k"] == "outer"
