"""One thread marks, unmarks and verifies a memory, another has random parts of it reclaimed, a third reads beside
them. Every answer is checked against every byte, every round.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import threading
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mvolatile import Overwritten, Purged, VolatileMemory, _core
from mvolatile.errors import Extents
from support import native
from support.libc import PAGE

__all__ = ["Race", "main"]


class Race:
    """One memory; its pages hold their number and the version, to the last byte."""

    def __init__(self, nbytes: int, huge: bool) -> None:
        self.memory = VolatileMemory(nbytes, "race", huge=huge)
        self.pages = nbytes // PAGE
        self.expected: NDArray[np.uint32] = np.empty((self.pages, PAGE // 4), np.uint32)
        self.expected[:, 0::2] = np.arange(self.pages, dtype=np.uint32)[:, None]
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self.rewrite(1)

    def rewrite(self, version: int) -> None:
        self.expected[:, 1::2] = version
        with self.memory.pin(write=True, on_purge="zero") as view:
            np.copyto(self._pages(view), self.expected)

    def _pages(self, view: memoryview | bytes) -> NDArray[np.uint32]:
        return np.frombuffer(view, np.uint32).reshape(self.pages, -1)

    def _rebuild(self, view: memoryview, extents: Extents) -> None:
        """Whatever is called lost must be gone, and what is not must be there."""
        self.counts["losses"] += 1
        pages = self._pages(view)
        kept = np.ones(self.pages, bool)
        for offset, length in extents:
            kept[offset // PAGE : (offset + length) // PAGE] = False
        self.counts["pages lost"] += int((~kept).sum())
        if pages[~kept].any():
            self.wrong.append("whole data was reported lost")
        if not np.array_equal(pages[kept], self.expected[kept]):
            self.wrong.append("lost data was not among what was reported")
        pages[~kept] = self.expected[~kept]

    def round(self, number: int) -> None:
        with self.memory.pin(on_purge=self._rebuild) as view:
            if not np.array_equal(self._pages(view), self.expected):
                self.wrong.append(f"round {number}: lost data was reported whole")
        if number % 8 == 0:
            self.rewrite(number + 2)
        if number % 32 == 31:
            with contextlib.suppress(BufferError):  # a peek is a pin where nothing traps
                self.memory.purge()  # so that something is lost however the other side fares

    def look(self) -> None:
        """Peek, and read: without an error, it must be one version, whole."""
        target = np.empty(len(self.memory), np.uint8)
        number = 0
        while not self.over.is_set() and not self.wrong:
            number += 1
            try:
                if number % 2:
                    with self.memory.peek() as view:
                        np.copyto(target, np.frombuffer(view, np.uint8))
                else:
                    self.memory.readinto(target)
            except Overwritten:
                self.counts["looks overwritten"] += 1
            except Purged:
                self.counts["looks purged"] += 1
            else:
                self.counts["looks whole"] += 1
                pages = target.view(np.uint32).reshape(self.pages, -1)
                if not (pages[:, 0::2] == self.expected[:, 0::2]).all() or np.ptp(pages[:, 1::2]):
                    self.wrong.append("a look returned mixed data")

    def run(self, rounds: int, looking: bool) -> None:
        """So many rounds, and on until the other side raced as well and something was lost."""
        evictor = native.load("evict")
        evictor.evict_calls.restype = ctypes.c_ulong
        unit = ctypes.c_size_t(PAGE)
        looker = threading.Thread(target=self.look)
        if looking:
            looker.start()
        address, length = ctypes.c_void_p(self.memory.address), ctypes.c_size_t(len(self.memory))
        assert evictor.evict_start(address, length, unit, ctypes.c_uint64(rounds)) == 0
        try:
            number = 0
            while not self.wrong and (
                number < rounds or evictor.evict_calls() <= 10 or not self.counts["losses"]
            ):
                number += 1
                self.round(number)
        finally:
            self.over.set()
            evictor.evict_stop()
            self.counts["reclaims"] = evictor.evict_calls()
            if looking:
                looker.join()
        self.counts["rounds"] = number
        if not _core.is_valid(self.memory):
            self.wrong.append("the invariants are broken")


def main(nbytes: int, huge: bool, rounds: int, looking: bool, longest: float) -> None:
    """Race in this process, for `longest` seconds at most; print the counts as JSON, and exit with 1 if any answer was
    wrong.
    """
    faulthandler.dump_traceback_later(longest, exit=True)
    race = Race(nbytes, huge)
    race.run(rounds, looking)
    print(json.dumps({"counts": dict(race.counts), "wrong": race.wrong}), flush=True)
    os._exit(1 if race.wrong else 0)
