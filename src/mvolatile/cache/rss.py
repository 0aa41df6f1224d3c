"""What a cache gives up for a limit on RSS: its own (`max_resident`), or that of the process, which others share.

The core keeps the process's limit whatever happens here, by taking the oldest memory of all. That takes good values
with the bad. So a cache gives up by its policy before, if it has its share: all that there is, divided by how many
caches are in use. One that has less leaves it to the core, which finds the oldest, and that is what others leave idle.

Memory comes back a region at a time, so more than a value has to go at once. In a segment that is not full the next
stores have time: each gives up a few values, and by the time that it is full there is room for another.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from .._core import give_back_kept, kept_bytes, residence
from ..errors import NoRoomError, TooLargeError
from ..residence import Share, resident_limit, room
from .eviction import Evictor
from .store import FRESH, Store, stores

__all__ = ["Residence"]

STEPS = 8
"""Values passed for each that is stored, while there is time."""
PART_KEPT, MOST_KEPT = 9, 32 << 20
"""The core keeps some memory of large values that left (`_core/protocol/spare.c`): an eighth of what is stored."""
CALLS = 64
"""So often it is asked how many caches are in use until they are counted again."""
NEARLY = 0.9
"""Of its share, with what is rounded up."""

_in_use = 1
_calls_left = 0
_as_last_seen: WeakKeyDictionary[object, object] = WeakKeyDictionary()


def _caches_in_use() -> int:
    """How many were stored into or read since they were last counted. Without a lock, roughly."""
    global _in_use, _calls_left
    _calls_left -= 1
    if _calls_left > 0:
        return _in_use
    used = 0
    try:
        for store in list(stores):
            now = store.nbytes, store.lookup.counts()
            used += _as_last_seen.get(store) != now
            _as_last_seen[store] = now
    except RuntimeError:  # another thread makes a cache
        return _in_use
    _in_use, _calls_left = max(1, used), CALLS
    return _in_use


class Residence:
    """Of one cache; `most` is its own limit."""

    def __init__(self, store: Store, evictor: Evictor, most: int | Share | None) -> None:
        self._store, self._evictor, self._most = store, evictor, most

    @property
    def most(self) -> int | None:
        """Its own limit now."""
        return self._most.nbytes() if isinstance(self._most, Share) else self._most

    @property
    def is_bounded(self) -> bool:
        """Whether there is a limit at all."""
        return self._most is not None or resident_limit() is not None

    def check(self, nbytes: int) -> None:
        """Refuse what could never be within a limit: to store it would take all others along, and break it all the
        same.
        """
        if not self.is_bounded:
            return
        own = self.most
        if own is not None and nbytes > own:
            raise TooLargeError(f"a value that takes {nbytes} bytes is larger than max_resident={own}")
        whole = resident_limit()
        if whole is not None and nbytes > whole:
            raise NoRoomError(
                f"a value of {nbytes} bytes, and volatile memory may add {whole} to this process's RSS "
                "(set_resident_limit)"
            )

    def fit(self, nbytes: int) -> bool:
        """Before a value of so many bytes is stored: give up others. Whether there was need."""
        if self._most is None and resident_limit() is None:
            return False
        store, own = self._store, self.most
        is_large = store.is_large(nbytes)
        wanted = nbytes if is_large else store.segment_bytes()
        filling = None if is_large else store.open.get(FRESH)
        steps = STEPS if filling is not None and filling.has_room(nbytes) else -1
        if own is not None and self._excess_of_own(own, wanted, is_large) > 0:
            while steps and self._excess_of_own(own, wanted, is_large) > 0 and self._evictor.advance():
                steps -= 1
            return True
        if self._lack(wanted) <= 0:
            return False
        if store.regions.mapped * _caches_in_use() >= NEARLY * residence()[0]:
            while steps and self._lack(wanted) > 0 and self._evictor.advance():
                steps -= 1
        return True

    def keep_own(self) -> None:
        """After a value was stored: several threads may have stored at once."""
        own = None if self._most is None else self.most
        if own is None:
            return
        regions = self._store.regions
        while regions.held > own and self._evictor.advance():
            pass
        if regions.held + kept_bytes() > own:
            give_back_kept()

    def _excess_of_own(self, own: int, wanted: int, is_large: bool) -> int:
        regions = self._store.regions
        if is_large:
            kept = min(own // PART_KEPT, MOST_KEPT)
            return regions.held + wanted - max(own - kept, wanted)
        return regions.held - min(wanted, regions.spare_bytes) + wanted - own

    def _lack(self, wanted: int) -> int:
        left = room(wanted)
        return -1 if left is None else wanted - left - self._store.regions.spare_bytes
