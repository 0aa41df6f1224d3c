"""Many processes, with threads in each, use one `SharedCache` at random, while memory is purged and processes are
killed. Each value says what it is, and how new: no read may give another key's, part of one, or what was overwritten,
deleted, cleared or expired before it began.

Each key has one thread of one process that changes it. It counts its changes, a deletion too, and writes the count to
a board in shared memory before a change (`begun`) and once that has returned (`settled`). A reader looks there first:
an older value is a wrong one. So is one newer than what was begun when the read is over.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

from mvolatile import SharedCache
from mvolatile.shared.place import Place

from .reclaiming import reclaim

__all__ = ["Told", "run"]

KEYS = 72
THREADS = 2
SIZES = (0, 20, 100, 1000, 4000, 5000, 30_000, 40_000, 150_000)
SHORT = 2e-3
"""Seconds that some values live."""
PATIENCE = 120.0
"""Seconds in which something must have moved."""
LOOK_EACH = 500
"""Operations between two looks whether all is as it should be."""


Options = Callable[[], dict[str, Any]]


class Told(NamedTuple):
    """What happened; a test that tests nothing is told by it."""

    operations: int
    hits: int
    keepers_killed: int
    workers_killed: int
    purged_pages: int


class Board:
    """Numbers in memory that all processes write: a row a key, then what the threads have done. Each has one writer."""

    def __init__(self, threads: int) -> None:
        self._memory = mmap.mmap(-1, 8 * (4 * KEYS + 2 * threads + 1))
        all_ = memoryview(self._memory).cast("q")
        self.begun, self.settled, self.cleared, self.how = (all_[i * KEYS : (i + 1) * KEYS] for i in range(4))
        self.done = all_[4 * KEYS : 4 * KEYS + threads]
        self.hits = all_[4 * KEYS + threads : 4 * KEYS + 2 * threads]
        self.wrong = all_[-1:]

    def least(self, key: int) -> int:
        """What a read that begins now may give."""
        return max(self.settled[key], self.cleared[key])

    def told(self, key: int) -> str:
        """What there is to know of a key; `how` it was settled: by expiry (-1), or what `Worker.change` drew, in %."""
        names = ("begun", "settled", "cleared", "how")
        return " ".join(f"{name}={getattr(self, name)[key]}" for name in names)

    def total(self) -> int:
        """Operations of all threads."""
        return sum(self.done)


class NotHereError(Exception):
    """A thread that may not change a key was asked to make it."""


class Worker:
    """A thread: the keys that it changes, and what it reads."""

    def __init__(
        self, cache: SharedCache[int, bytes], board: Board, number: int, threads: int, seed: int
    ) -> None:
        self.cache = cache
        self.board = board
        self.number = number
        self.random = Random(seed)
        self.mine = range(number, KEYS, threads)
        self.ends: dict[int, tuple[int, float]] = {}  # by key: of the newest value, if it ends soon
        for key in self.mine:
            # Who was killed here before may have made a change that it could not settle.
            board.begun[key] += 1

    # ---- values

    def make(self, key: int) -> bytes:
        count = self.board.begun[key]
        body = self.random.randbytes(self.random.choice(SIZES))
        if self.random.random() < 0.2:
            body = bytes(len(body))  # zeros are values, too
        head = b"%d %d %d " % (key, count, len(body))
        return head + body + b"%08x" % crc32(head + body)

    def check(self, key: int, value: Any, least: int) -> None:
        if type(value) is not bytes or b"%08x" % crc32(value[:-8]) != value[-8:]:
            raise AssertionError(f"torn: {key} {len(value)} {value[:40]!r}")
        its, count, _ = value.split(b" ", 2)[:3]
        if int(its) != key:
            raise AssertionError(f"another's: {key} {value[:40]!r}")
        if not least <= int(count) <= self.board.begun[key]:
            raise AssertionError(f"not of now: {key} {least} {self.board.told(key)} {value[:40]!r}")
        self.board.hits[self.number] += 1

    # ---- what a thread does

    def read(self, key: int) -> None:
        least = self.board.least(key)
        how = self.random.random()
        if how < 0.9:
            value = self.cache.get(key)
        elif how < 0.95:
            with suppress(NotHereError):  # it waits for who makes it, and is the next if that one dies
                self.check(key, self.cache.get_or_set(key, self._refuse), least)
            return
        else:
            value = self.cache.get_many([key]).get(key)
        if value is not None:
            self.check(key, value, least)

    def _refuse(self) -> bytes:
        raise NotHereError

    def change(self, key: int) -> None:
        least = self.board.least(key)
        self.ends.pop(key, None)
        self.board.begun[key] += 1
        count = self.board.begun[key]
        how = self.random.random()
        lives = SHORT if self.random.random() < 0.3 else 1000
        if how < 0.6:
            self.cache.set(key, self.make(key), ttl=lives)
        elif how < 0.7:
            if not self.cache.add(key, self.make(key), ttl=lives):
                return None
        elif how < 0.8:
            value = self.make(key)
            try:
                got = self.cache.get_or_set(key, lambda: value, ttl=lives)
            except NotHereError:  # it waited for the other thread of this process, and has its error
                return None
            if got != value:
                return self.check(key, got, least)
        elif how < 0.85:
            if got := self.cache.pop(key, b""):
                self.check(key, got, least)
        else:
            self.cache.delete_many([key])
        self.board.how[key] = int(100 * how)
        self.board.settled[key] = count
        if lives == SHORT:
            self.ends[key] = count, time.monotonic() + SHORT
        return None

    def let_expire(self) -> None:
        """What has expired for certain is settled, as what was deleted is."""
        now = time.monotonic()
        for key, (_, end) in list(self.ends.items()):
            if now > end:
                del self.ends[key]
                self.board.begun[key] += 1
                self.board.how[key] = -1
                self.board.settled[key] = self.board.begun[key]

    def clear(self) -> None:
        """One thread of all does."""
        before = list(self.board.settled)
        self.cache.clear()
        for key, count in enumerate(before):
            self.board.cleared[key] = count + 1

    def once(self) -> None:
        what = self.random.random()
        if what < 0.65:
            self.read(self.random.randrange(KEYS))
        elif what < 0.97:
            self.change(self.random.choice(self.mine))
        elif what < 0.98:
            for key in list(self.cache):
                assert 0 <= key < KEYS
        elif what < 0.985:
            least = [self.board.least(key) for key in range(KEYS)]
            for key, value in self.cache.items():
                self.check(key, value, least[key])
        elif what < 0.99:
            self.cache.purge(self.random.randrange(1 << 20))
        elif what < 0.991 and self.number == 0:
            self.clear()

    def run(self, operations: int) -> None:
        while self.board.done[self.number] < operations and not self.board.wrong[0]:
            self.let_expire()
            self.once()
            self.board.done[self.number] += 1


def _work(
    name: str, process: int, processes: int, operations: int, seed: int, board: Board, options: Options
) -> None:
    cache: SharedCache[int, bytes] = SharedCache(name, linger=1, **options())
    workers = [
        Worker(cache, board, process * THREADS + i, processes * THREADS, seed + i) for i in range(THREADS)
    ]

    def run(worker: Worker) -> None:
        try:
            worker.run(operations)
        except BaseException as error:
            board.wrong[0] = 1
            sys.excepthook(type(error), error, error.__traceback__)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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
    finally:
        sys.stderr.flush()
        os._exit(code)


def _keeper(name: str) -> int | None:
    with suppress(OSError):
        if (channel := Place(name).connect()) is not None:
            pid: int = channel.pid
            channel.close()
            return pid
    return None


class _Run:
    """What goes on around the workers: each is started anew when it was killed."""

    def __init__(self, name: str, processes: int, operations: int, seed: int, options: Options) -> None:
        self.name = name
        self.options = options
        self.processes = processes
        self.each = -(-operations // (processes * THREADS))
        self.random = Random(seed)
        self.board = Board(processes * THREADS)
        self.living: dict[int, int] = {}
        self.keepers = self.workers = self.purged = 0

    def start(self, process: int) -> None:
        seed = self.random.randrange(1 << 30)
        pid = _child(
            lambda: _work(self.name, process, self.processes, self.each, seed, self.board, self.options)
        )
        self.living[pid] = process

    def bury(self) -> None:
        """Those that have ended."""
        for pid in list(self.living):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.start_again(pid)

    def start_again(self, pid: int) -> None:
        process = self.living.pop(pid)
        mine = slice(process * THREADS, (process + 1) * THREADS)
        if min(self.board.done[mine]) < self.each and not self.board.wrong[0]:
            self.start(process)

    def kill_worker(self) -> None:
        pid = self.random.choice(list(self.living))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.workers += 1
        self.start_again(pid)

    def kill_keeper(self) -> None:
        pid = _keeper(self.name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.keepers += 1

    def reclaim(self) -> None:
        pid = _keeper(self.name)
        if pid is not None:
            self.purged += reclaim(pid, self.random)

    def run(self, kill_each: int) -> None:
        moved, moved_at, next_kill = -1, time.monotonic(), kill_each
        kills = cycle((self.kill_keeper, self.kill_worker))
        while self.living and not self.board.wrong[0]:
            self.bury()
            total = self.board.total()
            if total - moved >= LOOK_EACH or not self.living:
                moved, moved_at = total, time.monotonic()
                self.reclaim()
            elif time.monotonic() - moved_at > PATIENCE:
                raise TimeoutError(f"nothing moves after {total} operations")
            if total >= next_kill and self.living:
                next_kill = total + kill_each
                next(kills)()
            time.sleep(0.002)

    def end(self) -> None:
        for pid in self.living:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.living.clear()


def run(
    name: str, processes: int, operations: int, seed: int, kill_each: int, options: Options = dict
) -> Told:
    """So many operations by so many processes of two threads; each `kill_each` of them a keeper or a worker is killed.
    `options()` is called in each process, for what else its cache is given.
    `AssertionError` for a wrong value, which is told on stderr; `TimeoutError` where nothing moves.
    """
    one = _Run(name, processes, operations, seed, options)
    try:
        for process in range(processes):
            one.start(process)
        one.run(kill_each)
    finally:
        one.end()
    if one.board.wrong[0]:
        raise AssertionError("a worker had a wrong value or an error; it is told above")
    return Told(one.board.total(), sum(one.board.hits), one.keepers, one.workers, one.purged)
