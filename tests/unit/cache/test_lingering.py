"""What was just read or stored stays held for some milliseconds; what it promised stands meanwhile, and soon afterwards
the kernel has it.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mvolatile import VolatileCache, _core, status, testing
from mvolatile.cache.engine import engine_of
from mvolatile.memory import VolatileMemory, stored_memory, whole_hold
from support.c_fork import in_c_child

from .helpers import in_child

SIZE = 300_000
MOST = 64 << 20
DATA = bytes(range(256)) * 1200

pytestmark = pytest.mark.skipif(
    _core.tier() != "userfaultfd", reason="large values are stored so where it is watched"
)


@pytest.fixture(autouse=True)
def _lingering() -> Iterator[None]:
    gc.collect()
    _core.mark_lingering()
    _core.give_back_kept()
    _core.let_linger(MOST)
    yield
    _core.mark_lingering()
    _core.give_back_kept()
    _core.let_linger(0)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stored(data: bytes = DATA) -> VolatileMemory:
    return stored_memory([data], "value", dump=True, inherit=True)


def still_marked(make: Callable[[], VolatileMemory]) -> VolatileMemory:
    """One that the marker has seen to."""
    memory = make()
    wait_until(lambda: _core.is_volatile(memory))
    return memory


def use(memory: VolatileMemory) -> None:
    hold = whole_hold(memory)
    assert bytes(memoryview(hold)[:4]) == DATA[:4]


def held(make: Callable[[], Any] = stored) -> Any:
    """A memory that lingers. Where other threads take long, the marker may come first; and nothing lingers for a second
    after pressure, of which an earlier test may have been told: it is tried again.
    """
    deadline = time.monotonic() + 60
    while True:
        memory = make()
        if not _core.is_volatile(memory):
            return memory
        memory.close()
        assert time.monotonic() < deadline, "nothing lingers"
        time.sleep(0.001)


def test_what_was_stored_is_held_and_then_marked() -> None:
    memory = held()
    assert _core.pins(memory) == 0
    wait_until(lambda: _core.is_volatile(memory))
    assert _core.lingering_bytes() == 0
    assert memory.read() == DATA
    assert memory.purge() > 0
    assert memory.purged()
    memory.close()


def test_what_is_read_again_and_again_is_held_in_between() -> None:
    memory = still_marked(stored)
    time.sleep(0.05)  # at least: it was stored long ago then
    use(memory)
    assert _core.is_volatile(memory), "read once: it is marked at once"

    def read_twice() -> bool:
        use(memory)
        use(memory)
        return not _core.is_volatile(memory)

    wait_until(read_twice)
    wait_until(lambda: _core.is_volatile(memory))
    memory.close()


def test_it_is_marked_when_asked_for_or_purged_or_counted() -> None:
    memory = held()
    _core.mark_lingering()
    assert _core.is_volatile(memory)
    memory.close()
    memory = held()
    assert memory.purge() > 0
    memory.close()
    with VolatileCache[str, Any]() as cache:
        cache["k"] = np.zeros(SIZE)
        for _ in range(3):
            cache["k"].sum()
        assert cache.cache_info().pinned_bytes == 0
        assert _core.lingering_bytes() == 0
        array = cache["k"]
        assert cache.cache_info().pinned_bytes >= array.nbytes
    memory = held()
    rows = [row for row in status().memories if row.name == "value"]
    assert sum(row.volatile for row in rows) == memory.nbytes
    memory.close()


def test_it_is_bounded() -> None:
    _core.let_linger(3 * SIZE)
    memories = []
    for _ in range(20):
        memories.append(stored())
        assert _core.lingering_bytes() <= 3 * (SIZE + 100_000)
    _core.let_linger(0)
    _core.mark_lingering()
    memories.append(stored())
    assert _core.is_volatile(memories[-1]), "none is allowed"
    for memory in memories:
        assert memory.read() == DATA
        memory.close()


def test_a_pin_that_outlives_it_holds() -> None:
    memory = held()
    hold = whole_hold(memory)
    _core.mark_lingering()
    assert not _core.is_volatile(memory)
    assert _core.lingering_bytes() == 0
    assert bytes(memoryview(hold)) == DATA
    with pytest.raises(BufferError):
        memory.close()
    del hold
    assert _core.is_volatile(memory) or _core.lingering_bytes()
    memory.close()


def test_memory_that_lingered_serves_the_next_and_is_marked_with_it() -> None:
    for number in range(50):
        data = bytes([number]) * SIZE
        memory = held(lambda data=data: stored(data))  # type: ignore[misc]
        assert _core.close_and_keep(memory)
        again = stored(data[::-1])
        assert again.read() == data
        again.close()
    memory = held()
    assert _core.close_and_keep(memory)
    wait_until(lambda: _core.lingering_bytes() == 0)
    assert _core.kept_bytes() > 0
    assert stored().read() == DATA


def test_who_is_told_of_marks_is_told_of_each() -> None:
    memory = still_marked(stored)
    with testing.purging(rate=1, whole=1):
        use(memory)
        assert memory.purged()
    memory.close()
    memory = held()
    with testing.purging(rate=0):
        for _ in range(3):
            use(memory)
            assert _core.is_volatile(memory)
        memory.close()


def fill(cache: VolatileCache[int, Any]) -> list[Any]:
    for number in range(8):
        cache[number] = np.full(SIZE // 8, number)
        cache[number].sum()
    return [region.memory for region in engine_of(cache).store.regions.values()]


@pytest.mark.parametrize(
    "fork", [os.fork, pytest.param(in_c_child, id="in C", marks=pytest.mark.own_process)]
)
def test_a_fork_leaves_nothing_held(fork: Any) -> None:
    with VolatileCache[int, Any]() as cache:
        memories = fill(cache)

        def look() -> None:
            assert _core.lingering_bytes() == 0
            assert all(map(_core.is_volatile, memories))
            assert all((cache[number] == number).all() for number in range(8))
            assert all(map(_core.is_volatile, memories)), "not allowed before the child's caches listen"
            _core.let_linger(MOST)
            memory = held()
            wait_until(lambda: _core.is_volatile(memory))

        in_child(look) if fork is os.fork else fork(look)
        assert all((cache[number] == number).all() for number in range(8))


def test_pressure_ends_it_at_once(tmp_path: Path) -> None:
    """And for a second nothing lingers. A FIFO stands for the kernel's file, as systemd's protocol has it."""
    fifo = tmp_path / "pressure"
    os.mkfifo(fifo)
    listener = _core.Listener(((3, bytes(fifo), b"", b""),))
    assert listener.refused == (0,)
    memories = [held() for _ in range(3)]
    fifo.write_bytes(b"!")
    assert listener.wait(60_000_000_000) is not None
    wait_until(lambda: all(map(_core.is_volatile, memories)))
    began = time.monotonic()
    memory = stored()
    assert _core.is_volatile(memory) or time.monotonic() - began > 0.9
    listener.end()
    wait_until(lambda: time.monotonic() - began > 1.1)  # for those that come after this one


def test_where_no_thread_is_to_be_had_all_is_marked_at_once() -> None:
    code = """
import resource, threading
from mvolatile import _core
from mvolatile.memory import stored_memory
_core.let_linger(64 << 20)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
import os
os.setuid(65534)
try:
    threading.Thread(target=int).start()
except RuntimeError:
    memory = stored_memory([bytes(300_000)], "value", dump=True, inherit=True)
    assert _core.is_volatile(memory), "nobody would mark it"
    print("marked")
else:
    print("a thread can be had")
"""
    if os.getuid():
        pytest.skip("needs root, to become somebody else whose threads are counted")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "a thread can be had" in done.stdout:
        pytest.skip("RLIMIT_NPROC does not bind here")
    assert (done.returncode, done.stdout) == (0, "marked\n"), done.stderr


def test_the_interpreter_ends_beside_it() -> None:
    code = """
import numpy as np, mvolatile as mv
from mvolatile import _core
_core.let_linger(64 << 20)
cache = mv.VolatileCache()
for n in range(20):
    cache[n] = np.full(50_000, n)
    cache[n].sum(), cache[n].sum()
arrays = [cache[n] for n in range(20)]
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_read_store_and_close_beside_the_marker() -> None:
    with VolatileCache[int, Any](24 * SIZE) as cache:
        wrong: list[Any] = []

        def work(seed: int) -> None:
            for step in range(500):
                key = (step * 7 + seed) % 40
                array = cache.get(key)
                if array is None:
                    cache[key] = np.full(SIZE // 8, key)
                elif array[0] != key or array[-1] != key:
                    wrong.append((key, array[0], array[-1]))
                if step % 100 == 0:
                    _core.mark_lingering()
                    cache.purge(SIZE)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
