"""Where each record is, as clients see it: a slot table in a sealed memfd, which is copied to a larger one in time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from .._core import SlotIndex, tier

__all__ = ["Index", "random_bits"]

LEAST_SLOTS = 1 << 12


def random_bits(bits: int) -> int:
    """At most 64, which nobody can guess. `secrets` would load OpenSSL, half a megabyte of a keeper's memory."""
    return int.from_bytes(os.urandom(8)) >> 64 - bits


class Index:
    """Of one keeper. `slots` is the table as it is now, `descriptor` its file, `generation` how often it has moved."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nonce, self._secrets = random_bits(63), (random_bits(64), random_bits(64))
        # Where a purged page does not fault, each page of a record proves itself.
        self._stamped = tier() != "userfaultfd"
        self._version = random_bits(61) << 1  # no other keeper's: a change may be meant for one
        self.generation = 0
        self.slots, self.descriptor = self._new(LEAST_SLOTS)

    def __contains__(self, key: object) -> bool:
        """Whether there is a record of a key, by its hash."""
        return isinstance(key, int) and self.slots.find(key) >= 0

    def __len__(self) -> int:
        return self.slots.used

    @property
    def nbytes(self) -> int:
        """Of the table."""
        return SlotIndex.nbytes(self.slots.capacity)

    def next_version(self) -> int:
        """One that was never used."""
        self._version += 2
        return self._version

    def _new(self, capacity: int) -> tuple[SlotIndex, int]:
        descriptor = os.memfd_create(f"mvolatile {self._name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, SlotIndex.nbytes(capacity))
            slots = SlotIndex(descriptor, capacity, self._nonce, *self._secrets, self._stamped)
            # After our own mapping, which may write: no other one that may will ever be made.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(descriptor)
            raise
        return slots, descriptor

    def grow(self) -> None:
        """Have room for one more. A table is at most three quarters full, deleted slots included, or a little more
        where no larger one is to be had: `MemoryError` if it is full. It is twice as large afterwards if five eighths
        were in use: so it takes at most 128 bytes an entry.
        """
        slots = self.slots
        if (slots.filled + 1) * 4 <= slots.capacity * 3:
            return
        try:
            self._move(slots.capacity * 2 if slots.used * 8 > slots.capacity * 5 else slots.capacity)
        except (OSError, MemoryError):
            if slots.filled + 1 >= slots.capacity:
                raise MemoryError("no larger table is to be had") from None

    def shrink(self) -> None:
        """Take no more than that again, when most has gone."""
        capacity, used = self.slots.capacity, self.slots.used
        while capacity > LEAST_SLOTS and used * 16 < capacity * 5:
            capacity //= 2
        if capacity < self.slots.capacity:
            with suppress(OSError, MemoryError):
                self._move(capacity)

    def _move(self, capacity: int) -> None:
        old, descriptor = self.slots, self.descriptor
        self.slots, self.descriptor = self._new(capacity)
        old.move(self.slots)
        self.generation += 1
        os.close(descriptor)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)


_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE, which fcntl has not
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE | fcntl.F_SEAL_SEAL
