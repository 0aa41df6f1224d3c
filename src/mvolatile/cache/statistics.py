"""What a cache tells about itself."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    be lost; `purged`: entries found to have been taken by the kernel; `bytes`: what the values take, dead ones not yet
    given up included; `resident_bytes`: how much of its memory is in RAM, or None where this process may not read
    its own ``/proc/self/pagemap`` (no ``/proc``, or a daemon that has changed its user); `pinned_bytes`: memory the
    kernel cannot take now, because arrays over it live or it is still being filled; `segments`: pieces of memory;
    `undecodable`: entries whose bytes were there, but could not be made the value again.

    Only the four are unpacked and compared; ``_asdict()`` has all. It cannot be changed; it can be pickled.
    """

    def __new__(  # noqa: D102
        cls, hits: int, misses: int, maxsize: int | None, currsize: int, **more: Any
    ) -> CacheInfo:
        info = super().__new__(cls, hits, misses, maxsize, currsize)
        info.__dict__.update(more)
        return info

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self), self.__dict__

    def __getstate__(self) -> None:
        """All is told by the arguments."""

    @property
    def purged(self) -> int:
        """Entries that the kernel took."""
        return self.__dict__["purged"]  # type: ignore[no-any-return]

    @property
    def bytes(self) -> int:
        """What the values take."""
        return self.__dict__["bytes"]  # type: ignore[no-any-return]

    @property
    def resident_bytes(self) -> int | None:
        """How much of the memory is in RAM."""
        return self.__dict__["resident_bytes"]  # type: ignore[no-any-return]

    @property
    def pinned_bytes(self) -> int:
        """What the kernel cannot take now."""
        return self.__dict__["pinned_bytes"]  # type: ignore[no-any-return]

    @property
    def segments(self) -> int:
        """Pieces of memory."""
        return self.__dict__["segments"]  # type: ignore[no-any-return]

    @property
    def undecodable(self) -> int:
        """Entries that could not be made the value again."""
        return self.__dict__["undecodable"]  # type: ignore[no-any-return]

    def _asdict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All by name."""
        return {**super()._asdict(), **self.__dict__}

    def _replace(self, **fields: Any) -> CacheInfo:  # pyright: ignore[reportIncompatibleMethodOverride]
        return CacheInfo(**{**self._asdict(), **fields})

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"
