"""A store of bytes in volatile memory: an index, and the regions it points into. It knows nothing of what the bytes
mean, and nothing of which should go: its owner says (`evict`, `move`), and is told what was sealed and what left.

All changes are made under the owner's lock. Readers take no lock: they look a locator up in `index`, its table in
`lookup.tables`, and read; whichever of these is gone meanwhile is a miss or a reason to look again. So these two
are only ever changed in place, and a value is published last: written, then entered in `index`.

A change may be cut short anywhere by `KeyboardInterrupt`. What was published stays true; `mend.py` recounts the rest.
"""

from __future__ import annotations

from collections.abc import Hashable

from ...errors import Extents, Purged
from ..addresses import OutOfMemoryError
from ..cost import UNKNOWN
from ..departures import Why
from .contents import FRESH, KEPT, Contents
from .large import LargeValue
from .locator import KIND_MASK, region_of, slot_of
from .regions import Region
from .segment import Segment

__all__ = ["FRESH", "KEPT", "Store"]


class Store(Contents):
    """`put` and `read`, and what becomes of values then.

    `new_memory` makes memories; `lookup` is what readers in C use; `most` is how many bytes there may be at most, if
    that is known, and decides how large segments are. Usable alone:

    >>> store = Store()
    >>> store.put("a key", 3, b"some bytes")
    >>> store.read("a key")
    (3, b'some bytes')
    """

    taken = False
    """The kernel took something, and nobody has acted on it."""

    def read(self, key: Hashable) -> tuple[int, bytes]:
        """The kind and the bytes. `KeyError` for a key that is not there, or not any more."""
        while (locator := self.index.get(key)) is not None:
            region = self.regions.get(region_of(locator))
            if region is None:
                self.forget_dangling(key, locator)
                continue
            try:
                return locator & KIND_MASK, region.read(slot_of(locator))
            except ValueError:
                continue  # sealed at this moment
            except Purged:
                self.lose(key, locator)
        raise KeyError(key)

    # ---- out

    def remove(self, key: Hashable, locator: int | None, why: Why) -> bool:
        """Forget a key, if it is (still) at `locator`, if that is given."""
        old = self.index.get(key)
        if old is None or (locator is not None and old != locator):
            return False
        del self.index[key]
        self._died(key, old, why)
        return True

    def evict(self, key: Hashable) -> None:
        """Forget a key whose region is given up, or its place there."""
        del self.index[key]
        self.evicted += 1
        if self.gives_way:
            self.note_missing(key)
        if self.tell is not None:
            self.tell(key, "evicted")

    def lose(self, key: Hashable, locator: int) -> None:
        """A reader found that value purged: see what else is."""
        region = self.regions.get(region_of(locator))
        cost = UNKNOWN if region is None else region.cost(slot_of(locator))
        if region is not None:
            self.inspect(region)
        if self.index.get(key) == locator:
            del self.index[key]
            self.note_lost(key, cost, None if region is None else region.since)

    def forget_dangling(self, key: Hashable, locator: int) -> None:
        """A reader met a locator whose region was dropped."""
        number = region_of(locator)
        if self.index.get(key) != locator or number in self.regions:
            return
        del self.index[key]
        if any(region.number == number and lost for region, _, lost in self.dropped):
            self.note_lost(key, self.cost_of_dropped(locator))

    def drop(self, region: Region, lost: bool) -> None:
        """Give up all values in it; `clean` removes their keys later."""
        self.retire(region)
        self.dropped.append([region, 0, lost])

    def inspect(self, region: Region) -> None:
        """Ask the kernel what it took from a region, and act on it."""
        if region.is_open or region.gone or region.number not in self.regions:
            return
        extents: Extents = region.memory.purged()
        if not extents:
            return
        self.taken = True
        if isinstance(region, LargeValue) or sum(n for _, n in extents) >= region.used:
            self.drop(region, lost=True)
        else:
            self.compact(region)

    def clear(self, why: Why = "cleared") -> None:
        """Forget everything."""
        if self.tell is not None:
            for key in self.index:
                self.tell(key, why)
        # Nothing here needs memory, of which there may be none, but the index, which makes an empty one: it comes last.
        self.open.clear()
        self.lookup.tables.clear()
        while self.regions:
            self.retired(self.regions.popitem()[1])
        for table in (self.regions, self.dropped, self.sparse, self.index):
            table.clear()

    # ---- bounded work

    def clean(self, steps: int) -> bool:
        """Remove up to `steps` keys of dropped regions from the index; False when there are none."""
        if not self.dropped:
            return False
        job = self.dropped[0]
        region, at, lost = job
        end = min(len(region.keys), at + steps)
        for slot in range(at, end):
            if self.lives(region, slot):
                del self.index[region.keys[slot]]
                if lost:
                    self.note_lost(region.keys[slot], region.cost(slot), region.since)
        job[1] = end
        if end == len(region.keys):
            self.dropped.popleft()
        return True

    def work(self, steps: int) -> bool:
        """Go on with compaction for up to `steps` values; False when there is nothing to move."""
        if not self.sparse:
            return False
        job = self.sparse[0]
        segment, at = job
        end = min(len(segment.keys), at + steps)
        if segment.number in self.regions:
            for slot in range(at, end):
                if self.lives(segment, slot):
                    self.move(segment, slot, max(KEPT, segment.queue), segment.visits(slot))
                self.emptied(segment, slot)
        job[1] = end
        if end == len(segment.keys):
            self.sparse.popleft()
            self.retire(segment)
        return True

    def move(self, segment: Segment, slot: int, queue: int, visits: int) -> None:
        """Copy a value that lives to where those of `queue` are filled in, as if it had been read so often. It leaves
        if there is no memory for that.
        """
        key = segment.keys[slot]
        try:
            data = segment.read(slot)
        except Purged:
            del self.index[key]
            self.note_lost(key, segment.cost(slot), segment.since)
            return
        kind = self.index[key] & KIND_MASK
        try:
            self._enter(key, kind, data, visits, segment.cost(slot), queue)
        except OutOfMemoryError:
            self.evict(key)
