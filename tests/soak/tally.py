"""What happened, counted in a shared file: a row a thread, so no lock is needed and a SIGKILL loses nothing."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path

__all__ = ["NAMES", "ROWS", "WRONG", "Row", "Tally", "Wrong"]

WRONG = 70
"""The exit status of a worker that found something wrong."""

ROWS = 8
NAMES = (
    "cache hits",
    "cache misses",
    "cache writes",
    "arrays whole",
    "arrays lost",
    "arrays overwritten meanwhile",
    "arrays written",
    "raw ranges whole",
    "raw ranges lost",
    "forks",
    "processes misused",
    "children killed",
)


class Wrong(Exception):  # noqa: N818 - it is the finding
    """The library told something that is not so, or kept something that it should have given back."""


class Row:
    """The counters of one thread."""

    def __init__(self, memory: mmap.mmap, row: int) -> None:
        self._memory = memory
        self._start = row * len(NAMES) * 8

    def count(self, name: str, more: int = 1) -> None:
        at = self._start + NAMES.index(name) * 8
        struct.pack_into("q", self._memory, at, struct.unpack_from("q", self._memory, at)[0] + more)


class Tally:
    """The counters of one worker, in a file that the worker and whoever watches it map."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        size = ROWS * len(NAMES) * 8
        if create:
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size)

    def row(self, number: int) -> Row:
        return Row(self._memory, number)

    def totals(self) -> Counter[str]:
        numbers = struct.unpack(f"{ROWS * len(NAMES)}q", self._memory[:])
        return Counter({name: sum(numbers[i :: len(NAMES)]) for i, name in enumerate(NAMES)})

    def close(self) -> None:
        self._memory.close()
