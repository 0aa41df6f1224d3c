"""How near the limit is, where one can be seen: what goes then is chosen before the kernel takes the oldest.

The kernel takes what was marked first, and in a cache that fills for the first time that is what everybody asks for.
So where a memory cgroup's limit is what binds, the cache keeps a margin below it, and learns at once that a neighbour
came or went. Where nothing tells (the machine's own memory, most of which is page cache, or a limit above what can be
seen from here) the budget finds out by losses, as it does in a private cache.
"""

from __future__ import annotations

from ..kernel.room import unclaimed

__all__ = ["Headroom"]

NEAR = 16
"""A loss is a limit's doing if less than such a part of all is left below it, or than two margins."""


class Headroom:
    """Of one keeper."""

    def __init__(self) -> None:
        self._binds = False
        self._far = 0.0  # bytes to be stored until it is worth asking

    def left(self, stored: int, is_loss: bool, held: int, margin: int) -> int | None:
        """Bytes that may be held beyond `held`, less than nothing where there are too many; None where no limit binds.
        `stored`: since the last time.
        """
        self._far -= stored
        if not (self._binds or is_loss or self._far <= 0):
            return None
        free = unclaimed()
        if free is None:
            self._binds, self._far = False, float("inf")
            return None
        self._far = free / 2
        if is_loss:
            self._binds = free <= max(2 * margin, held // NEAR)
        else:
            self._binds |= free <= 2 * margin
        return free - margin if self._binds else None
