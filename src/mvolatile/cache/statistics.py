"""What a cache tells about itself."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

__all__ = ["CacheInfo"]


class Counts(NamedTuple):
    """What `functools.lru_cache` tells, in its order."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class CacheInfo(Counts):
    """A snapshot: a tuple of the four fields of `functools.lru_cache`, and, by name alone, what memory does.

    `hits`: calls that got a value which they did not make, those that waited for another's among them; `misses`: those
    that made it, and those that got nothing; `maxsize`: the bound on entries, or None; `currsize`: entries not known to
    be lost.

    Only the four are unpacked and compared; ``_asdict()`` has all, and later versions more. It cannot be changed; it
    can be pickled.
    """

    purged: Final[int] = 0
    """Entries found to have been taken by the kernel."""
    evicted: Final[int] = 0
    """Entries that the cache gave up itself, for a bound or for want of room."""
    expired: Final[int] = 0
    """Entries that left since they had expired."""
    stores: Final[int] = 0
    """Values that were stored."""
    bytes: Final[int] = 0
    """What the values take, dead ones not yet given up included."""
    resident_bytes: Final[int | None] = None
    """How much of the memory is in RAM, or None where this process may not read its own ``/proc/self/pagemap`` (no
    ``/proc``, or a daemon that has changed its user).
    """
    pinned_bytes: Final[int] = 0
    """Memory the kernel cannot take now, because arrays over it live or it is still being filled."""
    segments: Final[int] = 0
    """Pieces of memory."""
    undecodable: Final[int] = 0
    """Entries whose bytes were there, but could not be made the value again."""
    overhead: Final[int] = 0
    """Of a `SharedCache`: ordinary memory of its keeper that grows with the entries."""
    saved_seconds: Final[float] = 0.0
    """What it would have taken to make the values that hits gave: the sum of their costs, as measured or told."""
    spent_seconds: Final[float] = 0.0
    """What their makers took, of `get_or_set`, `aget_or_set` and the decorator."""
    lost_seconds: Final[float] = 0.0
    """What it had taken to make the values that the kernel took."""
    behind_hits: Final[int] = 0
    """Of the hits, those that were found in the second tier (`behind`)."""
    behind_errors: Final[int] = 0
    """What went wrong there."""
    behind_waiting: Final[int] = 0
    """What is still to be done there."""
    behind_dropped: Final[int] = 0
    """Values that were not written there, since too many waited."""

    def __new__(  # noqa: D102
        cls, hits: int, misses: int, maxsize: int | None, currsize: int, **more: Any
    ) -> CacheInfo:
        if unknown := more.keys() - CacheInfo.__annotations__.keys():
            raise TypeError(f"a {cls.__name__} has no {', '.join(sorted(unknown))}")
        info = super().__new__(cls, hits, misses, maxsize, currsize)
        info.__dict__.update(more)
        return info

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._asdict()), ()

    def _asdict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All by name."""
        return {**super()._asdict(), **{name: getattr(self, name) for name in CacheInfo.__annotations__}}

    def _replace(self, **fields: Any) -> CacheInfo:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self)(**{**self._asdict(), **fields})

    __replace__ = _replace  # of `copy.replace`: a named tuple's own would lose all but the four

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"
