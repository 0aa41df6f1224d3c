"""What is to be done behind a shared cache, on a file: the next keeper reads there what the last one knew.

A slot of 64 bytes for each key, written in one `pwrite`, so that a keeper killed at any instruction leaves it as it was
or as it is to be. The pages are taken when the file grows; a full disk stops that, and no change of what is in it.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .wire import ALL, DIGEST

__all__ = ["Entry", "Ledger"]

_SLOT = struct.Struct(f"<{DIGEST}s4xQIIQQQ")
FIRST = 1024
MOST = 1 << 17
"""Slots."""


class Entry(NamedTuple):
    """`number` is the change that is due, 0 for none. `owner` is who is to bring it there; `hand` who is at it, with
    the number of that change; both are processes, by number and beginning.
    """

    digest: bytes
    number: int
    owner: tuple[int, int]
    hand: tuple[int, int]
    in_hand: int


class Ledger:
    """Of one keeper. Without a path, or where no file can be, nothing outlives it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = -1
        self._free: list[int] = []
        self._size = 0

    def load(self) -> list[tuple[int, Entry]]:
        """What the last keeper left, with the slots."""
        if self._path is None:
            return []
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return []
        found = []
        data = b""
        while piece := os.pread(self._file, 1 << 20, len(data)):
            data += piece
        self._size = len(data) // _SLOT.size
        for at in range(self._size):
            digest, number, owner, hand, owner_began, hand_began, in_hand = _SLOT.unpack_from(
                data, at * _SLOT.size
            )
            if number or in_hand:
                found.append((at, Entry(digest, number, (owner, owner_began), (hand, hand_began), in_hand)))
            else:
                self._free.append(at)
        return found

    def place(self) -> int:
        """A slot that is free; `OSError` where there can be none."""
        if not self._free:
            if self._size >= MOST:
                raise OSError("so many keys are due that all are")
            more = max(FIRST, self._size)
            if self._path is not None:
                self._grow(self._size + more)
            self._free = list(range(self._size + more - 1, self._size - 1, -1))
            self._size += more
        return self._free.pop()

    def _grow(self, slots: int) -> None:
        assert self._path is not None
        if self._file < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
        os.posix_fallocate(self._file, 0, slots * _SLOT.size)

    def write(self, at: int, entry: Entry) -> None:
        """What a slot has from now on."""
        if self._file >= 0:
            digest, number, owner, hand, in_hand = entry
            data = _SLOT.pack(digest, number, owner[0], hand[0], owner[1], hand[1], in_hand)
            os.pwrite(self._file, data, at * _SLOT.size)

    def free(self, at: int) -> None:
        """Nothing is there any more."""
        self.write(at, _NOTHING)
        self._free.append(at)

    def drop(self) -> None:
        """Nothing is due: leave no file."""
        if self._file >= 0 and self._path is not None:
            os.close(self._file)
            self._file, self._size, self._free = -1, 0, []
            with suppress(OSError):
                os.unlink(self._path)


_NOBODY = (0, 0)
_NOTHING = Entry(ALL, 0, _NOBODY, _NOBODY, 0)
