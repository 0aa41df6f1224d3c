"""The thread that is told of memory pressure, and finalizers that come at bad moments."""

from __future__ import annotations

import gc
import os
import tempfile
import threading

import pytest

import mvolatile as mv
from mvolatile import VolatileCache
from mvolatile.cache import pressure
from mvolatile.cache.engine import engine_of
from mvolatile.errors import UnsupportedError
from mvolatile.kernel.pressure import PressureMonitor
from support.processes import run_python

from .helpers import seal


def _nothing_tells() -> bool:
    try:
        PressureMonitor().close()
    except UnsupportedError:
        return True
    return False


pytestmark = pytest.mark.skipif(
    _nothing_tells() or not mv.features().can_purge, reason="nothing tells of pressure, or nothing is purged"
)


def listening() -> VolatileCache[str, bytes]:
    cache: VolatileCache[str, bytes] = VolatileCache()
    cache["k"] = b"x"
    seal(cache)
    cache["k"] = b"y"
    assert engine_of(cache).listening
    return cache


def test_a_finalizer_in_the_new_thread_before_it_says_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` waits for the new thread, in which a collection may finalize another cache before that."""
    finalized = []
    start = threading.Thread.start

    def finalize_first(thread: threading.Thread) -> None:
        if thread.name == "mvolatile-cache":
            other = threading.Thread(target=pressure.ignore, args=(object(),), kwargs={"wait": False})
            start(other)
            other.join(200)
            finalized.append(not other.is_alive())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", finalize_first)
    listening().close()
    assert finalized == [True]


def test_a_finalizer_in_the_thread_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not wait for its own thread."""
    caches = [listening()]
    thread, monitor = pressure._thread, pressure._monitor
    assert thread is not None
    assert monitor is not None
    finalized_in = []

    def drop_them() -> None:
        caches.clear()
        gc.collect()
        finalized_in.append(threading.current_thread())

    monkeypatch.setattr(pressure, "tell_all", drop_them)
    with tempfile.TemporaryDirectory() as directory:
        os.mkfifo(f"{directory}/fifo")
        with PressureMonitor(environ={"MEMORY_PRESSURE_WATCH": f"{directory}/fifo"}) as pressed:
            # What the thread sleeps on ends, and it goes on to one that tells it something.
            monkeypatch.setattr(PressureMonitor, "__iter__", lambda _: iter([pressed.wait(None)]))
            teller = threading.Thread(target=pressure._run, args=(pressed,))
            pressure._thread = teller
            teller.start()
            with open(f"{directory}/fifo", "w") as writer:
                writer.write("now")
            teller.join(200)
    assert finalized_in == [teller]
    assert not teller.is_alive()
    assert pressure._thread is None
    thread.join(200)
    assert not thread.is_alive()


def test_a_service_manager_may_turn_it_off() -> None:
    def child() -> None:
        import threading

        import mvolatile as mv

        cache = mv.VolatileCache()
        cache["k"] = bytes(100_000)
        assert threading.enumerate() == [threading.main_thread()]
        cache.close()

    run_python(child, env={"MEMORY_PRESSURE_WATCH": "/dev/null"}).check()
