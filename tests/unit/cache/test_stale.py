"""`stale` and `stale_if_error`: an expired value is given while one maker makes it anew, or since that failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile.cache import refreshing
from mvolatile.cache.engine import engine_of
from support.c_fork import in_c_child, in_child
from support.processes import run_python

from .helpers import is_valid, purge, seal, told
from .sources import Source
from .sources import raised as raised
from .sources import source as source


def refreshed(cache: VolatileCache[Any, Any]) -> None:
    """Until no refresh is under way."""
    for thread in threading.enumerate():
        if thread.name == "mvolatile-refresh":
            thread.join(60)
            assert not thread.is_alive()
    is_valid(cache)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("sealed", [False, True])
def test_an_expired_value_is_given_at_once_and_one_makes_the_next(
    source: Source, size: int, sealed: bool
) -> None:
    source.answer = bytes(size)
    f = volatile_cache(ttl=10, stale=timedelta(seconds=5), timer=source.clock)(source)
    assert f(1) == bytes(size)
    if sealed:
        seal(f.cache)
    source.now = 10
    source.answer = b"\1" * size
    source.gate.clear()
    assert [f(1) for _ in range(5)] == [bytes(size)] * 5, "nobody waits"
    assert 1 not in f.cache, "to all else it has expired"
    assert f.cache.get(1) is None
    assert list(f.cache) == []
    assert f.cache.ttl(1) is None
    source.gate.set()
    refreshed(f.cache)
    assert f(1) == b"\1" * size
    assert source.made == 2
    assert threading.get_ident() in source.threads
    assert len(source.threads) == 2, "the first by the caller, the second beside"


def test_what_is_older_is_made_by_the_caller(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    f(1)
    source.now, source.answer = 15, b"second"
    assert f(1) == b"second"
    assert source.threads == {threading.get_ident()}
    is_valid(f.cache)


@pytest.mark.parametrize("how", ["pop", "delete", "set", "add", "clear", "touch", "incr", "popitem"])
def test_what_is_done_to_an_expired_value(source: Source, how: str) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(ttl=10, stale=1000, timer=source.clock)
    cache["k"], cache["l"] = 1, 2
    source.now = 20
    if how == "pop":
        assert cache.pop("k", None) is None
    elif how == "delete":
        assert cache.delete_many(["k"]) == 0
    elif how == "set":
        cache["k"] = 3
    elif how == "add":
        assert cache.add("k", 3)
    elif how == "clear":
        cache.clear()
    elif how == "touch":
        assert not cache.touch("k", 50)
    elif how == "incr":
        assert cache.incr("k", default=2) == 3
    else:
        with pytest.raises(KeyError):
            cache.popitem()
        assert len(cache) == 0
    expected = 1 if how == "touch" else 3 if how in ("set", "add", "incr") else 4
    assert cache.get_or_set("k", lambda: 4) == expected
    refreshed(cache)


def test_a_deletion_while_it_is_made_anew(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    f(1)
    source.now, source.answer = 10, b"made of what was there before"
    source.gate.clear()
    assert f(1) == b"first"
    f.cache_delete(1)
    source.gate.set()
    refreshed(f.cache)
    assert 1 not in f.cache
    source.answer = b"third"
    assert f(1) == b"third"


def test_what_a_refresher_raises_is_told_and_the_old_value_stays(source: Source, raised: list[Any]) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    f(1)
    source.now, source.answer = 10, OSError("no source")
    assert f(1) == b"first"
    refreshed(f.cache)
    assert [str(error) for error in raised] == ["no source"]
    source.answer = b"second"
    assert f(1) == b"first", "and the next asker has it made again"
    refreshed(f.cache)
    assert f(1) == b"second"
    assert len(raised) == 1


def test_where_making_fails_an_older_value_is_given(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=2, stale_if_error=60, timer=source.clock)(source)
    f(1)
    source.now, source.answer = 50, ValueError("down")
    assert f(1) == b"first"
    with pytest.raises(ValueError, match="down"):
        f(2)
    source.answer = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        f(1)
    source.now, source.answer = 70, ValueError("down")
    with pytest.raises(ValueError, match="down"):
        f(1)
    source.answer = b"second"
    assert f(1) == b"second"


def test_what_the_kernel_took_is_given_by_nobody(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=5, stale_if_error=5, timer=source.clock)(source)
    f(1)
    purge(f.cache)
    source.now, source.answer = 11, ValueError("down")
    with pytest.raises(ValueError, match="down"):
        f(1)


def test_it_leaves_as_expired_when_its_grace_is_over(source: Source) -> None:
    gone: list[Any] = []
    cache: VolatileCache[Any, Any] = VolatileCache(
        ttl=10, stale=5, timer=source.clock, on_evict=lambda *event: gone.append(event)
    )
    for key in range(10):
        cache[key] = bytes(key * 100)
    source.now = 12
    for key in range(300):
        cache["other", key] = b""
    told(cache)
    assert gone == []
    source.now = 15
    for key in range(300):
        cache["another", key] = b""
    told(cache)
    assert {(key, "expired") for key in range(10)} <= set(gone)


def test_many_refreshes_take_few_threads(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    for key in range(50):
        f(key)
    source.now, source.answer = 10, b"second"
    source.gate.clear()
    for key in range(50):
        assert f(key) == b"first"
    threads = [thread for thread in threading.enumerate() if thread.name == "mvolatile-refresh"]
    assert len(threads) == refreshing.MOST_THREADS
    source.gate.set()
    refreshed(f.cache)
    assert [f(key) for key in range(50)] == [b"second"] * 50
    assert source.made == 100


def test_where_no_thread_is_to_be_had_the_caller_makes_it(
    source: Source, monkeypatch: pytest.MonkeyPatch, raised: list[Any]
) -> None:
    def refuse(*unused: Any, **more: Any) -> None:
        raise RuntimeError("can't start new thread")

    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    f(1)
    f(2)
    monkeypatch.setattr(refreshing, "start_thread", refuse)
    monkeypatch.setattr(refreshing, "tell_once", lambda *unused: None)
    source.now, source.answer = 10, b"second"
    assert f(1) == b"second"
    source.answer = OSError("down")
    assert f(2) == b"first"
    assert len(raised) == 1
    assert source.threads == {threading.get_ident()}


def test_a_refresh_that_needs_itself_gets_the_old_value(source: Source) -> None:
    @volatile_cache(ttl=10, stale=5, timer=source.clock)
    def f(n: int) -> int:
        return source.made if n == 0 else f(0) + 1 if not source.now else f(n)

    assert f(1) == 1
    source.now = 10
    assert f(1) == 1
    refreshed(f.cache)
    source.now = 11
    assert f(1) == 1


def test_closed_meanwhile(source: Source) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    for key in range(10):
        f(key)
    source.now = 10
    source.gate.clear()
    for key in range(10):
        f(key)
    f.cache.close()
    source.gate.set()
    refreshed(f.cache)
    assert 10 < source.made <= 10 + refreshing.MOST_THREADS
    assert f(1) == b"first"


@pytest.mark.parametrize("fork", [in_child, in_c_child])
@pytest.mark.own_process
def test_a_child_refreshes_for_itself(source: Source, fork: Callable[..., Any]) -> None:
    f = volatile_cache(ttl=10, stale=5, timer=source.clock)(source)
    f(1)
    source.now = 10
    source.gate.clear()
    assert f(1) == b"first"  # a thread of the parent's is at it

    def child() -> None:
        source.gate = threading.Event()
        source.gate.set()
        source.answer = b"the child's"
        assert f(1) == b"first"
        refreshed(f.cache)
        assert f(1) == b"the child's"

    fork(child)
    source.gate.set()
    refreshed(f.cache)


def test_the_interpreter_ends_with_a_refresh_under_way() -> None:
    def program() -> None:
        import threading

        import mvolatile

        now, begun = 0.0, threading.Event()

        @mvolatile.volatile_cache(ttl=1, stale=5, timer=lambda: now)
        def f(n: int) -> int:
            if now:
                begun.set()
                threading.Event().wait()
            return n

        f(1)
        now = 2
        assert f(1) == 1
        assert begun.wait(60)

    done = run_python(program).check()
    assert done.stderr == ""


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="stale must not be negative"):
        VolatileCache(stale=-1)
    with pytest.raises(TypeError, match="stale_if_error must be a number of seconds"):
        VolatileCache(stale_if_error="5")  # type: ignore[arg-type]
    for shared in (None, "x"):
        with pytest.raises(ValueError, match="stale must not be negative"):
            volatile_cache(shared=shared, stale=-1)(bytes)
    with pytest.raises(TypeError, match="a shared cache has no on_evict"):
        volatile_cache(shared="x", on_evict=print)
    assert engine_of(VolatileCache(stale=5, stale_if_error=7)).grace == 7
