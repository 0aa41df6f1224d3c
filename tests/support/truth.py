"""Many processes use one `SharedCache` at random, while memory is purged and processes are killed. Each value says
what it is, and how new: no read may give another key's, part of one, or what was overwritten or deleted before it
began.

Each key has one process that changes it. It counts its changes, a deletion too, and publishes the count in shared
memory once a change has returned. A reader looks there first: an older value is a wrong one.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

from mvolatile import SharedCache
from mvolatile.shared.place import Place

__all__ = ["run"]

KEYS = 64
SIZES = (0, 20, 100, 1000, 4000, 5000, 30_000, 40_000, 150_000)


def _value(key: int, count: int, random: Random) -> bytes:
    body = random.randbytes(random.choice(SIZES))
    if random.random() < 0.2:
        body = bytes(len(body))  # zeros are values, too
    head = b"%d %d %d " % (key, count, len(body))
    return head + body + b"%08x" % crc32(head + body)


def _check(key: int, value: Any) -> int:
    """The count of a value that is whole and the key's."""
    if type(value) is not bytes or b"%08x" % crc32(value[:-8]) != value[-8:]:
        raise AssertionError(f"torn: {key} {len(value)} {value[:40]!r}")
    its, count, _ = value.split(b" ", 2)[:3]
    if int(its) != key:
        raise AssertionError(f"another's: {key} {value[:40]!r}")
    return int(count)


def _work(name: str, number: int, workers: int, operations: int, seed: int, published: memoryview) -> None:
    random = Random(seed)
    cache: SharedCache[int, bytes] = SharedCache(name, linger=5)
    mine = [key for key in range(KEYS) if key % workers == number]
    # One that was killed here before may have made a change that it could not publish.
    counts = {key: published[key] + 2 for key in mine}

    def change(key: int, do: Callable[..., Any]) -> None:
        counts[key] += 1
        do(counts[key])
        published[key] = counts[key]

    for _ in range(operations):
        what = random.random()
        if what < 0.6:
            key = random.randrange(KEYS)
            least = published[key]
            value = cache.get(key)
            if value is not None and _check(key, value) < least:
                raise AssertionError(f"old: {key} {least} {value[:40]!r}")
        elif what < 0.85:
            key = random.choice(mine)
            change(
                key,
                lambda count, key=key: cache.set(
                    key, _value(key, count, random), ttl=random.choice([1000, 1e-3])
                ),
            )
        elif what < 0.9:
            key = random.choice(mine)
            change(key, lambda _count, key=key: cache.delete_many([key]))
        elif what < 0.95:
            key = random.choice(mine)
            counts[key] += 1
            value = cache.get_or_set(key, partial(_value, key, counts[key], random))
            _check(key, value)
        elif what < 0.97:
            for key in list(cache):
                assert 0 <= key < KEYS
        elif what < 0.98 and number == 0:
            cache.purge(random.randrange(1 << 20))
    cache.close()


def _child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    finally:
        os._exit(code)


def run(name: str, workers: int, operations: int, seed: int, kill_every: float) -> tuple[int, int]:
    """`operations` of each of so many processes; answers how often a keeper and a worker were killed.
    `AssertionError` for a wrong value, `TimeoutError` where nothing moves.
    """
    shared = mmap.mmap(-1, 8 * KEYS)
    published = memoryview(shared).cast("q")
    random = Random(seed)
    keepers = clients = 0
    living: dict[int, int] = {}

    def start(number: int) -> None:
        seed_of_it = random.randrange(1 << 30)
        pid = _child(lambda: _work(name, number, workers, operations, seed_of_it, published))
        living[pid] = number

    for number in range(workers):
        start(number)
    end = time.monotonic() + 250 + operations / 20
    strikes = 0
    while living:
        done, status = os.waitpid(-1, os.WNOHANG)
        if done in living:
            number = living.pop(done)
            if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                start(number)
            elif status:
                for other in living:
                    os.kill(other, signal.SIGKILL)
                    os.waitpid(other, 0)
                raise AssertionError("a worker had a wrong value; it is told above")
        if time.monotonic() > end:
            for other in living:
                os.kill(other, signal.SIGKILL)
                os.waitpid(other, 0)
            raise TimeoutError("nothing moves")
        time.sleep(kill_every)
        strikes += 1
        if strikes % 4 == 0 and living and clients < 3 * workers + operations // 500:
            os.kill(random.choice(list(living)), signal.SIGKILL)
            clients += 1
        elif strikes % 4 == 2 and keepers < 12 + operations // 500:
            with suppress(OSError):
                channel = Place(name).connect()
                if channel is not None:
                    os.kill(channel.pid, signal.SIGKILL)
                    keepers += 1
    published.release()
    shared.close()
    return keepers, clients
