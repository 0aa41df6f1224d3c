"""How much may be held, and so how much has to go; nothing here knows of what.

There are bounds that the user gave: `max_bytes`, `max_entries`. Without them the kernel decides how much we may have.
It purges the oldest volatile pages first, whatever they hold, so each of its purges takes good values with the bad. So
purges are treated as TCP treats loss: the `allowance` is cut to just below what was held, so that the kernel finds
nothing to purge. Then the allowance grows a little with each region filled, faster the longer no loss is seen, until
it is lifted.

The allowance bounds the whole footprint: values, and their overhead, the ordinary memory of keys and index, which the
kernel cannot take. Many small values are mostly the latter; the kernel would take the last value, and then kill the
process. So values and index shrink together, and little room for ordinary memory counts as a loss before there is one.
"""

from __future__ import annotations

from typing import Protocol

from ..kernel.room import room

__all__ = ["Budget"]

SLOWEST, BACKED_OFF = 1 / 32, 0.985
LEAST = 8 << 20
"""The allowance never falls below this, even if the kernel took everything."""
QUIET = 16
"""Regions filled without a loss until growth doubles."""
SURVEYS = 64
"""While the kernel keeps taking, so many surveys of all regions are made while the cache is filled once."""
STRIDE = 1 << 20
"""How much the indexes may grow, over all caches, between two checks of available memory (0.5 ms each): so many bytes,
or a sixteenth of what they take.
"""
STRIDES_LEFT = 4
"""With room for fewer strides nothing grows; while room still shrinks, so does what is held, to `RETREAT` of it."""
RETREAT = 0.95


_unasked = 0
"""By how many bytes the indexes grew since available memory was last checked. Counted without a lock, roughly."""


class Usage(Protocol):
    """What is held now. `Lookup` has it, and a keeper's reclaimer."""

    @property
    def nbytes(self) -> int:
        """Bytes of values."""
        ...

    @property
    def overhead(self) -> int:
        """Ordinary memory that they need beside."""
        ...


class Budget:
    """Of one cache. `allowance` is None where the kernel leaves us what we want."""

    def __init__(self, usage: Usage, max_bytes: int | None, max_entries: int | None) -> None:
        self.max_bytes, self.max_entries = max_bytes, max_entries
        self.allowance: float | None = None
        self._usage = usage
        self._growth = SLOWEST
        self._quiet = 0
        self._sustained = 0  # footprint, when last a region was filled without a loss
        self._least_room = float("inf")  # seen since there was enough
        self._filled = 0  # bytes, since last all was surveyed

    @property
    def footprint(self) -> int:
        """All that is held, about."""
        return self._usage.nbytes + self._usage.overhead

    @property
    def limit(self) -> float:
        """Bytes that the values may take now. Less than nothing where keys take all."""
        most = self.max_bytes
        if self.allowance is None:
            return float("inf") if most is None else most
        left = self.allowance - self._usage.overhead
        return left if most is None else min(left, most)

    def excess(self, nbytes: int) -> float:
        """Bytes that have to go before `nbytes` more are held; none if that is less than nothing."""
        if self.allowance is None:
            return -1 if self.max_bytes is None else self._usage.nbytes + nbytes - self.max_bytes
        return self._usage.nbytes + nbytes - self.limit

    @property
    def credit(self) -> float:
        """Bytes, of values and overhead, for which nothing has to go."""
        held = self._usage.nbytes
        credit = float("inf") if self.max_bytes is None else self.max_bytes - held
        return credit if self.allowance is None else min(credit, self.allowance - held - self._usage.overhead)

    def is_full(self, entries: int) -> bool:
        """Whether one of so many entries has to go before there is another."""
        return self.max_entries is not None and entries >= self.max_entries

    # ---- what the kernel leaves us

    def filled(self, nbytes: int, overhead: int) -> None:
        """A region was filled with so much: ask, now and then, whether there is room for more of that."""
        global _unasked
        self._filled += nbytes
        _unasked += overhead
        stride = max(STRIDE, self._usage.overhead // 16)
        if _unasked < stride:
            return
        _unasked = 0
        has = room()
        if has is None or has >= STRIDES_LEFT * stride:
            self._least_room = float("inf")
            return
        # Python's allocator reuses freed entries, so shrinking further would free nothing.
        self.back_off(self.footprint * (RETREAT if has < self._least_room else 1))
        self._least_room = min(has, self._least_room)

    @property
    def is_survey_due(self) -> bool:
        """Whether, the kernel having taken something, all regions are to be asked about."""
        return self._filled * SURVEYS >= self._usage.nbytes

    def surveyed(self) -> None:
        """They were."""
        self._filled = 0

    def grow(self, nbytes: int) -> None:
        """A region of so many bytes was filled, and the kernel took nothing meanwhile."""
        self._sustained = self.footprint
        if self.allowance is None or self._least_room < float("inf"):
            return
        self.allowance += self._growth * nbytes
        self._quiet += 1
        if self._quiet >= QUIET:
            self._quiet = 0
            self._growth *= 2
            if self._growth > 1:
                self.allowance = None

    def taken(self) -> None:
        """The kernel took something: keep below what it let us have before.

        That is what we held when last a region was filled without a loss, not what survived: the kernel takes more
        than it needs. Where somebody else has the memory now, the next loss comes early, and says so.
        """
        self.back_off(BACKED_OFF * max(self._sustained, self.footprint))

    def retreat(self) -> None:
        """The program's own memory runs short."""
        self.back_off(self.footprint * RETREAT)

    def back_off(self, footprint: float) -> None:
        """Hold no more than that for now."""
        self.allowance = max(LEAST, footprint)
        self._growth, self._quiet = SLOWEST, 0
        self._sustained = self.footprint

    def lift(self) -> None:
        """As if the kernel had never taken anything."""
        self.allowance, self._growth, self._quiet, self._sustained = None, SLOWEST, 0, 0
        self._filled, self._least_room = 0, float("inf")
