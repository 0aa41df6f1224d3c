"""Which keys have which tag, so that all values of one can be deleted together.

A key has the tag that its value was last stored with. Keys that leave by themselves (taken, evicted, expired) stay
noted until a round through all of them, which is due when those noted are twice as many as there are: to be told of
each would take the way by which plain stores go in one call.

The bad schedule: a value is being made for a key with tag *t*, *t* is deleted, the value is stored: it was made of
what was there before. So a making has its tag from its beginning on (`Call.tag`), and whoever deletes one makes those
stale.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sized
from typing import Any, Protocol

__all__ = ["KEEP", "NO_TAGS", "Tagged", "Tags"]

NO_TAGS = "a cache with something behind it has no tags: what is there alone would keep its value"

KEEP: Any = object()
"""In place of a tag: the one that there is."""

SPARE = 1024


class Index(Container[Any], Sized, Protocol):
    """The keys there are."""


class Tags:
    """Of one cache; changed under its lock."""

    __slots__ = ("_index", "_keys", "_most", "_of")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._of: dict[Hashable, Hashable] = {}
        self._keys: dict[Hashable, dict[Hashable, None]] = {}
        self._most = SPARE

    def __len__(self) -> int:
        return len(self._of)

    def note(self, key: Hashable, tag: Hashable) -> None:
        """`key` is stored with `tag`, or with None."""
        if tag is KEEP:
            return
        self._forget(key)
        if tag is None:
            return
        if len(self._of) >= self._most:
            self._look_through()
        self._keys.setdefault(tag, {})[key] = None
        self._of[key] = tag

    def take(self, tag: Hashable) -> list[Hashable]:
        """The keys that have it, and have none from now on."""
        keys = list(self._keys.pop(tag, ()))
        for key in keys:
            self._of.pop(key, None)
        return keys

    def clear(self) -> None:
        """Forget all."""
        self._of.clear()
        self._keys.clear()
        self._most = SPARE

    def _forget(self, key: Hashable) -> None:
        if key in self._of:
            tag = self._of.pop(key)
            keys = self._keys.get(tag, {})
            keys.pop(key, None)
            if not keys:
                self._keys.pop(tag, None)

    def _look_through(self) -> None:
        for key in list(self._of):
            if key not in self._index:
                self._forget(key)
        self._most = 2 * len(self._index) + SPARE


class Tagged:
    """In place of a call: a store with a tag, which makes what is being made for the key stale, as any store does."""

    __slots__ = ("_calls", "_key", "tag")

    def __init__(self, calls: Any, key: Hashable, tag: Hashable) -> None:
        self._calls, self._key, self.tag = calls, key, tag

    @property
    def stale(self) -> bool:
        """Asked under the lock, in the moment before the value is stored."""
        self._calls.invalidate(self._key)
        return False
