"""Workers of a shared cache that are killed at any instruction, while others go on; the keeper's memory and
descriptors are the same in the end.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from mvolatile import SharedCache

from .keepers import until

__all__ = ["Told", "run"]

SLACK = 2 << 20
"""Bytes by which the keeper's ordinary memory may differ from what it was: the allocator keeps some."""
STRAY = 8
"""Mappings by which it may differ: its allocator's. One that a dead worker left would be there thousands of times."""
AT_ONCE = 3
KEYS = 40
SIZES = (10, 1000, 33_000, 200_000, 1 << 20)


class Told(NamedTuple):
    """What happened."""

    kills: int
    descriptors: int
    grown: int
    read_meanwhile: int


def _value(key: Any, size: int) -> bytes:
    return repr(key).encode().ljust(16, b".") * (size // 16 + 1)


def _check(key: Any, value: bytes) -> None:
    assert value == _value(key, 16 * (len(value) // 16 - 1)), (key, value[:40])


def _use_for_ever(name: str, seed: int, progress: memoryview) -> None:
    random = Random(seed)
    cache: SharedCache[Any, Any] = SharedCache(name)
    while True:
        key = random.randrange(KEYS)
        what = random.randrange(8)
        if what == 0:
            cache[key] = _value(key, random.choice(SIZES))
        elif what == 1:
            cache.get_or_set(key, partial(_value, key, random.choice(SIZES)))
        elif what == 2:
            cache.delete_many([key])
        elif what == 3:
            cache.incr("count", default=0)
        elif what == 4:
            cache.set(key, _value(key, 100), ttl=0.01)
        elif what == 5:
            for _ in cache:
                pass
        elif (value := cache.get(key)) is not None:
            _check(key, value)
        progress[0] += 1


def _forked(name: str, seed: int, progress: memoryview) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _use_for_ever(name, seed, progress)
    except BaseException as error:  # a wrong value; who kills it sees that it has ended before
        os.write(2, f"{error!r}\n".encode())
    finally:
        os._exit(1)


def _kill(pid: int, random: Random, progress: memoryview) -> None:
    """At some operation of its, and at some instruction of that."""
    goal = random.randrange(1, 12)

    def far() -> bool:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended is None, "a worker had a wrong value or an error; it is told above"
        return progress[0] >= goal

    until(far, patience=60)
    for _ in range(random.randrange(3000)):
        pass
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def _state(cache: SharedCache[Any, Any]) -> tuple[int, int, int]:
    """Descriptors, mappings and bytes of the keeper's, once nobody else is connected and nothing is stored."""
    cache.clear()
    until(lambda: cache.keeper_info()["connections"] <= 2, patience=60)
    told = cache.keeper_info()
    assert told["making"] == 0
    pid = told["pid"]
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    mappings = len(Path(f"/proc/{pid}/maps").read_text().splitlines())
    return len(os.listdir(f"/proc/{pid}/fd")), mappings, int(status["VmRSS"].split()[0]) << 10


def run(name: str, kills: int, seed: int) -> Told:
    """`kills` workers, some at once, beside a thread that reads and writes. `AssertionError` for a wrong value, for a
    keeper that died of it, and for anything that a dead worker left there.
    """
    random = Random(seed)
    cache: SharedCache[Any, Any] = SharedCache(name)
    cache["mine"] = 0
    pages = [mmap.mmap(-1, mmap.PAGESIZE) for _ in range(AT_ONCE)]
    progress = [memoryview(page).cast("q") for page in pages]
    living: dict[int, int] = {}
    stop = threading.Event()
    read: list[int] = []
    wrong: list[BaseException] = []

    def go_on() -> None:
        try:
            with SharedCache[Any, Any](name) as other:
                while not stop.is_set():
                    other["mine"] = len(read)
                    assert other["mine"] == len(read)
                    key = len(read) % KEYS
                    _check(key, other.get_or_set(key, partial(_value, key, 100)))
                    read.append(key)
        except BaseException as error:
            wrong.append(error)
            raise

    def kill_some(count: int) -> None:
        thread = threading.Thread(target=go_on)
        for i in range(count):
            at = i % AT_ONCE
            if at in living:
                _kill(living.pop(at), random, progress[at])
            progress[at][0] = 0
            living[at] = _forked(name, random.randrange(1 << 30), progress[at])
            if i == AT_ONCE:
                thread.start()  # the first were forked without it: what forks beside a thread is another test's
        stop.set()
        thread.join()
        for at in list(living):
            _kill(living.pop(at), random, progress[at])

    try:
        kill_some(kills // 5)
        pid = cache.keeper_info()["pid"]
        before = _state(cache)
        stop.clear()
        kill_some(kills - kills // 5)
        after = _state(cache)
    finally:
        stop.set()
        for one in living.values():
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)
    assert not wrong
    assert cache.keeper_info()["pid"] == pid
    assert after[0] == before[0], "descriptors are what they were"
    assert after[1] <= before[1] + STRAY, "mappings are about what they were"
    assert after[2] - before[2] < SLACK
    cache.close()
    for view in progress:
        view.release()
    return Told(kills, after[0], after[2] - before[2], len(read))
