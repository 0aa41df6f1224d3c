"""Threads that read, write, pin, peek, purge, rebuild and fork over one memory at once, and check every byte.

The data has a version; a version is written to every page under a lock of the program's own, as a real program
would do. Whatever is read without an error must be one version, whole: no page of another one, no zeros.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mvolatile import Overwritten, Purged, VolatileMemory, _core
from support.libc import MADV_PAGEOUT, PAGE, madvise
from support.processes import LONGEST

__all__ = ["Crowd", "main"]


class Crowd:
    """One memory and its users."""

    def __init__(self, nbytes: int, huge: bool, seed: int) -> None:
        self.memory = VolatileMemory(nbytes, "crowd", huge=huge)
        self.pages = nbytes // PAGE
        self.seed = seed
        self.version = 0
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.over = threading.Event()
        self.turns = [0] * 6
        """Of each thread."""
        self._numbers = np.arange(self.pages, dtype=np.uint32)[:, None]
        self.memory.write(self.data(0))

    def data(self, version: int) -> NDArray[np.uint32]:
        """A version, whole."""
        pages = np.empty((self.pages, PAGE // 4), np.uint32)
        pages[:, 0::2] = self._numbers
        pages[:, 1::2] = version + 1
        return pages

    def check(self, found: bytes, what: str) -> None:
        pages = np.frombuffer(found, np.uint32).reshape(self.pages, -1)
        version = int(pages[0, 1]) - 1
        if not 0 <= version <= self.version or not (pages == self.data(max(version, 0))).all():
            firsts = np.unique(pages[:, 1])[:8]
            zeros = int((pages[:, 1] == 0).sum())
            self.failures.append(
                f"{what}: versions {firsts - 1} at version {self.version}, {zeros} zero pages"
            )
        self.counts[f"{what} whole"] += 1

    def peek(self, source: random.Random) -> None:
        with self.memory.peek() as view:
            found = bytes(view)
        self.check(found, "peek")

    def peek_released(self, source: random.Random) -> None:
        """With the GIL released, so that it truly overlaps with the others."""
        target = np.empty(len(self.memory), np.uint8)
        with self.memory.peek() as view:
            np.copyto(target, np.frombuffer(view, np.uint8))
        self.check(target.tobytes(), "peek")

    def read(self, source: random.Random) -> None:
        self.check(self.memory.read(0), "read")

    def readinto(self, source: random.Random) -> None:
        target = bytearray(len(self.memory))
        self.memory.readinto(target)
        self.check(bytes(target), "read")

    def pin(self, source: random.Random) -> None:
        with self.lock, self.memory.pin() as view:
            self.check(bytes(view), "pin")

    def rebuild(self, source: random.Random) -> None:
        def again(view: memoryview, extents: object) -> None:
            view[:] = self.data(self.version).data.cast("B")
            self.counts["rebuilt"] += 1

        with self.lock, self.memory.pin(on_purge=again) as view:
            self.check(bytes(view), "rebuild")

    def write(self, source: random.Random) -> None:
        with self.lock:
            self.version += 1
            self.memory.write(self.data(self.version))

    def write_pinned(self, source: random.Random) -> None:
        with self.lock, self.memory.pin(write=True, on_purge="zero") as view:
            self.version += 1
            data = self.data(self.version).data.cast("B")
            for start in range(0, len(view), 16 * PAGE):
                view[start : start + 16 * PAGE] = data[start : start + 16 * PAGE]

    def pageout(self, source: random.Random) -> None:
        """From outside, at any moment, whoever holds it."""
        first = source.randrange(self.pages)
        count = source.randint(1, min(64, self.pages - first))
        with contextlib.suppress(OSError):  # EINVAL: locked for a moment, by a hold after a fork
            madvise(self.memory.address + first * PAGE, count * PAGE, MADV_PAGEOUT)

    def purge(self, source: random.Random) -> None:
        self.memory.purge()
        self.memory.purged()

    def _work(self, number: int, *actions: Callable[[random.Random], None]) -> None:
        source = random.Random(self.seed * 1000 + number)
        while not self.over.is_set() and not self.failures:
            action = source.choice(actions)
            self.turns[number] += 1
            try:
                action(source)
            except Overwritten:
                self.counts[f"{action.__name__} overwritten"] += 1
            except Purged as lost:
                if not lost.extents:
                    self.failures.append(f"{action.__name__}: Purged without extents")
                self.counts[f"{action.__name__} purged"] += 1
            except BufferError:
                self.counts["busy"] += 1
            except Exception as error:  # a thread's end must not go unseen
                self.failures.append(f"{action.__name__}: {error!r}")

    def missing(self) -> list[str]:
        """What a crowd is there for and has not happened yet."""
        wanted = ["peek whole", "read whole", "rebuilt", "purged"]
        happened = list(self.counts)  # the threads add to it
        return [what for what in wanted if not any(name.endswith(what) for name in happened)]

    def run(self, until: Callable[[], bool]) -> None:
        """Let them loose until then: by what happened, and not by the clock, which on a slow machine tells nothing."""
        works = [
            (self.peek, self.peek_released),
            (self.peek_released, self.read, self.readinto),
            (self.pin, self.rebuild),
            (self.write, self.write_pinned, self.rebuild),
            (self.pageout,),
            (self.purge, self.rebuild),
        ]
        threads = [threading.Thread(target=self._work, args=(n, *work)) for n, work in enumerate(works)]
        for thread in threads:
            thread.start()
        while not until() and not self.failures:
            time.sleep(0.02)
        self.over.set()
        for thread in threads:
            thread.join()
        if not _core.is_valid(self.memory):
            self.failures.append("the invariants are broken")
        self.memory.close()


def main(nbytes: int, huge: bool, turns: int, seed: int = 1) -> None:
    """Run one crowd in this process until each thread had so many turns and all has happened; print what did as
    JSON, and exit with 1 if anything was wrong.
    """
    crowd = Crowd(nbytes, huge, seed)
    faulthandler.dump_traceback_later(LONGEST - 10, exit=True)
    crowd.run(until=lambda: min(crowd.turns) >= turns and not crowd.missing())
    print(json.dumps({"counts": dict(crowd.counts), "failures": crowd.failures, "version": crowd.version}))
    os._exit(1 if crowd.failures else 0)
