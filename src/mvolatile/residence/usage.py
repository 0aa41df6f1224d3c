"""The figures: `memory_usage()`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from ..kernel import smaps
from .limit import look
from .others import rss

__all__ = ["MemoryUsage", "memory_usage"]


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """The memory of this process, in bytes.

    `rss` is what software that looks at RSS sees. `reclaimable` of it the kernel takes whenever somebody needs it,
    without a swap and without killing anybody: ``LazyFree`` of ``/proc/self/smaps``, None where that cannot be read.
    So `needed`, the rest, is the figure for an alert.

    `volatile` is what of it is volatile memory, at most, with what is held now; `held` what of that cannot be given
    back now: it is pinned, exported, in arrays that live, or locked. `limit` is what `volatile` may be; None for any.
    """

    rss: int
    reclaimable: int | None
    volatile: int
    held: int
    limit: int | None

    @property
    def needed(self) -> int:
        """What nobody could take: ``rss`` without ``reclaimable``."""
        return max(0, self.rss - (self.reclaimable or 0))


def memory_usage() -> MemoryUsage:
    """What this process has in RAM, and what of it is for the taking. It costs a walk over its mappings.

    Threads: from any. Fork: a child's figures are its own. Errors: `ValueError` where ``MVOLATILE_RESIDENT_LIMIT`` is
    no limit, as at each store.

    >>> import mvolatile
    >>> usage = mvolatile.memory_usage()
    >>> usage.held <= usage.volatile <= usage.rss
    True
    """
    look()
    try:
        sums = smaps.rollup()
    except OSError:  # no /proc, or a daemon that has changed its user
        sums = None
    volatile, _, limit = _core.residence()
    seen = rss() if sums is None else sums.rss
    return MemoryUsage(
        rss=seen,
        reclaimable=None if sums is None else sums.lazy_free,
        volatile=min(volatile, seen),
        held=min(_core.held_bytes(), volatile, seen),
        limit=limit,
    )
