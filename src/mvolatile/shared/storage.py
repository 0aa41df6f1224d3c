"""What the keeper keeps: records in volatile memory, and their index.

Records are read as clients read them, since whoever touched one would fill what was purged of it (`segment.py`).

What has expired is there for nobody, but for who asks how late it is. It is kept as long as any client has said that it
may ask (`grace`), and leaves at once when its key is set, deleted or cleared: it must not be given in place of that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .._core import boot_seconds
from ..errors import NoRoomError, TooLargeError
from ..kernel.room import room
from .eviction import Tags
from .index import Index
from .reclaim import Reclaimer
from .segment import ALIGNMENT
from .segments import Segments
from .visits import Uses, Visits

__all__ = ["Storage"]

Source = bytes | memoryview | int
"""A value, or the descriptor of a file that begins with it."""
WORTH_ASKING = 32 << 20
LONGEST_VALUE = (1 << 40) - 1
"""What a slot can say."""


class Storage:
    """Records by key. `uses` is what clients say of them."""

    def __init__(self, name: str, max_bytes: int | None, uses: Uses) -> None:
        self.index = Index(name)
        visits = Visits(self.index, uses)
        self.segments = Segments(name, self.index, visits)
        self.reclaimer = Reclaimer(self.index, self.segments, visits, max_bytes)
        self.stores = 0
        self._tags: Tags | None = None  # until the first record has one
        self._expiring = False
        self._swept = 0

    @property
    def max_bytes(self) -> int | None:
        """The bound that somebody set."""
        return self.reclaimer.budget.max_bytes

    # ---- what there is

    def slot(self, key: bytes) -> int:
        """Of a key that has not expired, or -1; perhaps of a value that is lost."""
        slots = self.index.slots
        slot = slots.find(slots.hash(key))
        if slot >= 0 and self.is_over(slots.get(slot)[5]):
            self._leave_expired(slot)
            return -1
        return slot

    def late_slot(self, key: bytes, late: float) -> int:
        """As `slot`, also of one that expired less than `late` seconds ago."""
        slot = self.index.slots.find(self.index.slots.hash(key))
        return -1 if slot < 0 or self.is_over(self.index.slots.get(slot)[5], late) else slot

    def _leave_expired(self, slot: int) -> None:
        if self.is_over(self.index.slots.get(slot)[5], self.reclaimer.grace):
            self.remove(slot)
            self.reclaimer.expired += 1

    def whole_slot(self, key: bytes) -> int:
        """Of a key whose value is all there, or -1. What is lost leaves."""
        slot = self.slot(key)
        if slot >= 0 and self.index.slots.probe(slot) != key:
            self.lose(slot)
            return -1
        return slot

    @staticmethod
    def is_over(expires: float, late: float = 0.0) -> bool:
        """Whether a life that ends then ended `late` seconds ago, or earlier."""
        return expires != 0 and boot_seconds() >= expires + late

    # ---- changes

    def put(self, key: bytes, source: Source, length: int, kind: int, expires: float, cost: int = 0) -> int:
        """Store it, and answer its version; `cost` is the class of what it took to make. On an error the key
        has no value any more.

        `TooLargeError`, `NoRoomError`; `OSError` from a mailbox that is shorter than `length`.
        """
        try:
            return self._put(key, source, length, kind, expires, cost)
        except BaseException as error:
            slots = self.index.slots
            if (slot := slots.find(slots.hash(key))) >= 0:
                self.remove(slot)
            if isinstance(error, MemoryError) and not isinstance(error, NoRoomError):
                self.reclaimer.mend()
                raise NoRoomError("no memory is to be had") from error
            raise

    def _put(self, key: bytes, source: Source, length: int, kind: int, expires: float, cost: int) -> int:
        index, segments, reclaimer = self.index, self.segments, self.reclaimer
        need = index.slots.size(0, len(key), length) + ALIGNMENT + 8
        most = self.max_bytes
        if most is not None and need > most + ALIGNMENT + 8:
            raise TooLargeError(f"a value of {length} bytes is larger than max_bytes={most}")
        if length > LONGEST_VALUE:
            raise NoRoomError(f"a value of {length} bytes")
        if need >= WORTH_ASKING and (has := room()) is not None and need + (1 << 20) > has:
            raise NoRoomError(f"a value of {length} bytes, but there is room for {max(0, has)}")
        index.grow()
        slots = index.slots
        hash_ = slots.hash(key)
        queue = reclaimer.make_room(hash_, need, cost)
        segment, address, size = segments.place(len(key), length, queue)
        before = slots.find(hash_)
        old = slots.get(before) if before >= 0 else None
        version = index.next_version()
        try:
            slots.put(key, source, address, length, kind, expires, version, cost)
        except BaseException:
            segments.unwritten(segment)
            raise
        segments.wrote(segment, hash_, address, size)
        if old is not None:  # the slot tells of the new one by now: nobody who looks finds the old
            segments.died(old[1], old[2])
        self._expiring |= expires != 0
        self.stores += 1
        reclaimer.stored(size)
        return version

    def remove(self, slot: int) -> None:
        """Nobody finds it any more."""
        self.reclaimer.evictable.remove(slot)

    def lose(self, slot: int) -> None:
        """It was found to be lost."""
        self.reclaimer.met(slot)

    def forget(self, key: bytes) -> None:
        """What expired is not to be given in place of what its key has now."""
        slots = self.index.slots
        slot = slots.find(slots.hash(key))
        if slot >= 0 and slots.probe(slot) == key:
            self.remove(slot)

    def note_tag(self, key: bytes, tag: bytes) -> None:
        """What `key` has was stored with `tag`, or with none."""
        if self._tags is None and tag:
            self._tags = Tags(self.index)
        if self._tags is not None:
            self._tags.note(self.index.slots.hash(key), tag or None)

    @property
    def tagged(self) -> int:
        """Keys of which is known with what tag they were stored; some may have left."""
        return 0 if self._tags is None else len(self._tags)

    def delete_tagged(self, tag: bytes) -> int:
        """How many values were deleted."""
        slots, deleted = self.index.slots, 0
        tagged: Any = () if self._tags is None else self._tags.take(tag)  # hashes
        for hash_ in tagged:
            slot = slots.find(hash_)
            if slot >= 0 and slots.probe(slot) is None:
                self.lose(slot)
            elif slot >= 0:
                deleted += not self.is_over(slots.get(slot)[5])
                self.remove(slot)
        return deleted

    def touch(self, slot: int, expires: float) -> None:
        """It ends at `expires`; 0: never."""
        self._expiring |= expires != 0
        self.index.slots.expire(slot, expires)

    def clear(self) -> None:
        """Forget everything."""
        self.index.slots.clear()
        self._tags = None
        self.segments.clear()
        self.reclaimer.lift()

    def resize(self, max_bytes: int | None) -> None:
        """Another bound; what is too much goes now."""
        self.reclaimer.budget.max_bytes = max_bytes
        self.reclaimer.fit()

    # ---- by and by

    def tick(self) -> None:
        """What is due when time has passed."""
        self.sweep()
        self.reclaimer.look_for_losses()
        self.index.shrink()

    def sweep(self, most: int = 2000) -> None:
        """Take out some of what has expired."""
        if not self._expiring:
            return
        slots, self._swept = self.index.slots.scan(self._swept, most)
        for slot in slots:
            self._leave_expired(slot)
        if self._swept >= self.index.slots.capacity:
            self._swept = 0

    def purge(self, nbytes: int | None) -> int:
        """Have the kernel take the oldest now."""
        given = 0
        for segment in self.segments.all():
            if nbytes is not None and given >= nbytes:
                break
            if not segment.is_open:
                with suppress(OSError):
                    given += segment.memory.purge()
        return given
