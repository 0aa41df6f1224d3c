"""What other processes do in these tests: functions that spawn can import."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from mvolatile import SharedCache


def get(cache: SharedCache[Any, Any], key: Any) -> Any:
    """Read it, and leave something behind."""
    value = cache.get(key)
    cache[os.getpid()] = b"was here"
    return value


def make_slowly(name: str, marks: Any) -> Any:
    """Make a value once there is a byte to read."""
    cache: SharedCache[Any, Any] = SharedCache(name)

    def factory() -> str:
        os.write(marks[1], b"began")
        os.read(marks[2], 1)
        return f"made by {os.getpid()}"

    return cache.get_or_set("k", factory)


def fork_and_die(name: str, marks: Any) -> None:
    """Be a maker that is killed, and leave a child that has its sockets."""
    cache: SharedCache[Any, Any] = SharedCache(name)

    def factory() -> str:
        if not os.fork():
            os.read(marks[2], 1)
            os._exit(0)
        os.write(marks[1], b"began")
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    cache.get_or_set("k", factory)


def write_for_ever(name: str, seed: int) -> None:
    """Until it is killed."""
    from random import Random

    random = Random(seed)
    cache: SharedCache[Any, Any] = SharedCache(name)
    while True:
        key = random.randrange(50)
        cache[key] = (key, random.randbytes(random.choice([10, 1000, 60_000])))
        cache.get_or_set(("made", key), lambda: b"x" * 50_000)
        cache.delete_many([("made", random.randrange(50))])
        cache.get(random.randrange(50))


def once(condition: Any, patience: float = 200.0) -> None:
    """Return when it is so."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.002)
