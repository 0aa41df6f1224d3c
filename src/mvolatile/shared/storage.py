"""What the keeper keeps: records in volatile memory, their index, and what goes when there is too much.

Small records share *segments*, which are filled front to back under one pin and volatile from then on; a large one has
memory of its own. Once memory is volatile nothing here holds, peeks at or surveys it again, since that fills what was
purged: a purged page must answer `EFAULT` until the memory is given back. Records are read as clients read them.

What goes: the oldest memory first, but what was used since the hand last passed is carried forward. There is too much
beyond `max_bytes`; and beyond what was left when the kernel was found to have taken something, which grows again with
what is stored, so that what goes is chosen here, by use, before the kernel takes the oldest.
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from .._core import SlotIndex, boot_seconds, tier
from ..errors import NoRoomError, TooLargeError
from ..kernel.room import room
from .segment import Segment, Spare, rounded
from .wire import INLINE

__all__ = ["Storage"]

SEGMENT = 256 << 10
ALIGNMENT = 16
LEAST_SLOTS = 1 << 12
TIME_TO_LOOK = 1 << 20
"""Bytes stored after which it is looked whether the kernel took the oldest."""
WHOLE_IN_A_ROW = 8
"""Pieces of memory of which nothing is lost, until what is newer is not looked at."""
SPARE = 4
"""Segments' worth of dead records that are let be."""
SECOND_CHANCES = 2
"""Passes of the hand over everything, until what was used goes as well."""


class Storage:
    """Records and their index. `used_lately(slot)` says whether a client has used an entry, and forgets that."""

    def __init__(self, name: str, max_bytes: int | None, used_lately: Callable[[int], bool]) -> None:
        self.name = name
        self.max_bytes = max_bytes
        self._used_lately = used_lately
        self._nonce, self._secrets = secrets.randbits(63), (secrets.randbits(64), secrets.randbits(64))
        # Where a purged page does not fault, each page of a record proves itself.
        self.stamped = tier() != "userfaultfd"
        self._version = secrets.randbits(61) << 1  # no other keeper's: a change may be meant for one
        self.nbytes = 0
        self.purged = self.evicted = self.expired = self.stores = 0
        self._allowance: float | None = None
        self._unseen = 0
        self._expiring = False
        self._swept = 0
        self._open: Segment | None = None
        self._due = False  # a segment was filled, and it is time to look how much of all is dead
        self._spare = Spare()
        self._starts: list[int] = []
        self._segments: OrderedDict[int, Segment] = OrderedDict()  # oldest first; the open one is last
        self.generation = 0
        self.index, self.table = self._new_index(LEAST_SLOTS)

    # ---- the index

    def _new_index(self, capacity: int) -> tuple[SlotIndex, int]:
        nbytes = SlotIndex.nbytes(capacity)
        table = os.memfd_create(f"mvolatile {self.name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(table, nbytes)
        index = SlotIndex(table, capacity, self._nonce, *self._secrets, self.stamped)
        # After our own mapping, which may write: no other one that may will ever be made.
        fcntl.fcntl(table, fcntl.F_ADD_SEALS, _SEALS)
        return index, table

    def _grow(self) -> None:
        index = self.index
        if (index.filled + 1) * 8 <= index.capacity * 5:
            return
        old = self.table
        bigger = index.capacity * 2 if index.used * 16 > index.capacity * 5 else index.capacity
        self.index, self.table = self._new_index(bigger)
        index.move(self.index)
        self.generation += 1
        self._swept = 0
        os.close(old)

    def slot(self, key: bytes) -> int:
        """Of a key that has not expired, or -1; perhaps of a value that is lost."""
        slot = self.index.find(self.index.hash(key))
        if slot >= 0 and self.is_over(self.index.get(slot)[5]):
            self.remove(slot)
            self.expired += 1
            return -1
        return slot

    def whole_slot(self, key: bytes) -> int:
        """Of a key whose value is all there, or -1. What is lost leaves."""
        slot = self.slot(key)
        if slot >= 0 and self.index.probe(slot) != key:
            self.remove(slot)
            self.purged += 1
            return -1
        return slot

    @staticmethod
    def is_over(expires: float) -> bool:
        """Whether a life that ends then has ended."""
        return expires != 0 and boot_seconds() >= expires

    # ---- changes

    def put(self, key: bytes, source: bytes | int, length: int, kind: int, expires: float) -> int:
        """Store it, and answer its version. On an error the key has no value any more.

        `TooLargeError`, `NoRoomError`; `OSError` from a mailbox that is shorter than `length`.
        """
        try:
            return self._put(key, source, length, kind, expires)
        except BaseException as error:
            if (slot := self.index.find(self.index.hash(key))) >= 0:
                self.remove(slot)
            if isinstance(error, MemoryError) and not isinstance(error, NoRoomError):
                raise NoRoomError("no memory is to be had") from error
            raise

    def _put(self, key: bytes, source: bytes | int, length: int, kind: int, expires: float) -> int:
        need = self.index.size(0, len(key), length) + ALIGNMENT + 8
        if self.max_bytes is not None and need > self.max_bytes + ALIGNMENT + 8:
            raise TooLargeError(f"a value of {length} bytes is larger than max_bytes={self.max_bytes}")
        if need >= _WORTH_ASKING and (has := room()) is not None and need + (1 << 20) > has:
            raise NoRoomError(f"a value of {length} bytes, but there is room for {max(0, has)}")
        self._grow()
        self._fit(need)
        segment, address, size = self._place(len(key), length)
        self._version += 2
        before = self.index.find(self.index.hash(key))
        old = self.index.get(before) if before >= 0 else None
        try:
            hash_ = self.index.put(key, source, address, length, kind, expires, self._version)
        except BaseException:
            if not segment.live and segment is not self._open:
                self._forget(segment)
            raise
        segment.hashes.append(hash_)
        segment.used = address + size - segment.start
        segment.live += size
        self.nbytes += size
        self._expiring |= expires != 0
        self.stores += 1
        if segment is not self._open:
            segment.seal()
        if old is not None:  # the slot tells of the new one by now: nobody who looks finds the old
            self._dead(old[1], old[2])
        if self._due:
            self._due = False
            self._compact()
        self._unseen += size
        if self._unseen >= TIME_TO_LOOK:
            self.look_for_losses()
        return self._version

    def _place(self, key_length: int, length: int, urgent: bool = True) -> tuple[Segment, int, int]:
        if length > INLINE:
            size = self.index.size(0, key_length, length)
            segment = self._new_segment(size, urgent)
            return segment, segment.start, size
        segment_ = self._open
        if segment_ is not None:
            address = segment_.start + segment_.used + -segment_.used % ALIGNMENT
            size = self.index.size(address, key_length, length)
            if address + size <= segment_.start + segment_.nbytes:
                return segment_, address, size
            segment_.seal()
            self._open = None
            if not segment_.live:
                self._forget(segment_)
            self._due = True
        segment = self._open = self._new_segment(max(SEGMENT, self.index.size(0, key_length, length)), urgent)
        return segment, segment.start, self.index.size(segment.start, key_length, length)

    def _new_segment(self, nbytes: int, urgent: bool) -> Segment:
        nbytes = rounded(nbytes)
        try:
            segment = self._spare.take(nbytes) or Segment(nbytes, self.name)
        except (OSError, MemoryError):
            if not urgent:
                raise
            self._give_up(max(nbytes, self.nbytes // 8))
            self._spare.drop()
            segment = Segment(nbytes, self.name)
        self._segments[segment.start] = segment
        insort(self._starts, segment.start)
        return segment

    def remove(self, slot: int) -> None:
        """Nobody finds it any more."""
        _, address, size, *_ = self.index.get(slot)
        self.index.remove(slot)
        self._dead(address, size)

    def _dead(self, address: int, size: int) -> None:
        segment = self._segment_of(address)
        segment.live -= size
        self.nbytes -= size
        if not segment.live and segment is not self._open:
            self._forget(segment)

    def _segment_of(self, address: int) -> Segment:
        return self._segments[self._starts[bisect_right(self._starts, address) - 1]]

    def _forget(self, segment: Segment) -> None:
        if self._segments.pop(segment.start, None) is not None:
            del self._starts[bisect_right(self._starts, segment.start) - 1]
            segment.seal()
            self._spare.keep(segment)

    def touch(self, slot: int, expires: float) -> None:
        """It ends at `expires`; 0: never."""
        self._expiring |= expires != 0
        self.index.expire(slot, expires)

    def clear(self) -> None:
        """Forget everything."""
        self.index.clear()
        self._open = None
        for segment in list(self._segments.values()):
            self._forget(segment)
        self._spare.drop()
        self.nbytes = 0
        self._allowance = None

    # ---- what goes

    def _most(self) -> float:
        bounds = [bound for bound in (self.max_bytes, self._allowance) if bound is not None]
        return min(bounds, default=math.inf)

    def _fit(self, more: int) -> None:
        too_much = self.nbytes + more - self._most()
        if too_much > 0:
            self._give_up(int(min(too_much, self.nbytes)))

    def resize(self, max_bytes: int | None) -> None:
        """Another bound; what is too much goes now."""
        self.max_bytes = max_bytes
        self._fit(0)

    def _give_up(self, nbytes: int) -> None:
        """Have at least so many bytes less, the oldest first, and what was used lately last."""
        goal = max(0, self.nbytes - nbytes)
        chances = SECOND_CHANCES * (len(self._segments) + 1)
        while self.nbytes > goal and self._segments:
            segment = next(iter(self._segments.values()))
            chances -= 1
            if segment is self._open:
                segment.seal()
                self._open = None
            if chances > 0 and len(segment.hashes) == 1 and self._was_used(segment):
                self._segments.move_to_end(segment.start)
                continue
            self._empty(segment, self._used_lately if chances > 0 else _nothing)

    def _was_used(self, segment: Segment) -> bool:
        return any(self._used_lately(slot) for slot in self._slots_of(segment))

    def _slots_of(self, segment: Segment) -> list[int]:
        """Of the records that are still in it. A key that was stored twice there has two hashes, and one slot."""
        end = segment.start + segment.nbytes
        slots = map(self.index.find, dict.fromkeys(segment.hashes))
        return [slot for slot in slots if slot >= 0 and segment.start <= self.index.get(slot)[1] < end]

    def _empty(self, segment: Segment, carry: Callable[[int], bool]) -> None:
        """All of it goes but what is to be carried, which is written anew among the newest. No table moves
        meanwhile.
        """
        for slot in self._slots_of(segment):
            if carry(slot) and self._carry(slot):
                continue
            self.remove(slot)
            self.evicted += 1
        self._forget(segment)

    def _carry(self, slot: int) -> bool:
        _, _, _, length, kind, expires = self.index.get(slot)
        record = self.index.read(slot)
        if record is None or self.is_over(expires):
            return False
        key, value = record
        try:
            segment, address, size = self._place(len(key), length, urgent=False)
        except (OSError, MemoryError):
            return False
        self._version += 2
        old = self.index.get(slot)
        segment.hashes.append(self.index.put(key, value, address, length, kind, expires, self._version))
        segment.used = address + size - segment.start
        segment.live += size
        self.nbytes += size
        self._dead(old[1], old[2])
        return True

    def look_for_losses(self) -> int:
        """Whether the kernel took something of the oldest; then all of it that is lost leaves. Answers how many
        did.
        """
        grown, self._unseen = self._unseen, 0
        lost = 0
        whole = 0
        for segment in list(self._segments.values()):
            if segment.pin is not None:
                continue
            gone = 0 if segment.is_resident() else self._drop_lost(segment)
            lost += gone
            whole = 0 if gone else whole + 1
            if whole >= WHOLE_IN_A_ROW:
                break
        if lost:
            self.purged += lost
            self._allowance = max(self.nbytes, SEGMENT)
        elif self._allowance is not None:
            self._allowance += grown / 64
        return lost

    def _compact(self) -> None:
        """Memory that is a third larger than what lives in it is too much: what is left of the emptiest moves."""
        held = sum(segment.used for segment in self._segments.values())
        if held * 3 <= self.nbytes * 4 + SPARE * SEGMENT * 3:
            return
        sealed = [segment for segment in self._segments.values() if segment.pin is None]
        for segment in sorted(sealed, key=lambda one: one.live / one.used)[:SPARE]:
            if segment.live * 4 < segment.used * 3:
                self._empty(segment, _everything)

    def _drop_lost(self, segment: Segment) -> int:
        lost = [slot for slot in self._slots_of(segment) if self.index.probe(slot) is None]
        for slot in lost:
            self.remove(slot)
        return len(lost)

    def sweep(self, most: int = 2000) -> None:
        """Take out some of what has expired."""
        if not self._expiring:
            return
        slots, self._swept = self.index.scan(self._swept, most)
        for slot in slots:
            if self.is_over(self.index.get(slot)[5]):
                self.remove(slot)
                self.expired += 1
        if self._swept >= self.index.capacity:
            self._swept = 0

    def purge(self, nbytes: int | None) -> int:
        """Have the kernel take the oldest now."""
        given = 0
        for segment in list(self._segments.values()):
            if nbytes is not None and given >= nbytes:
                break
            if segment.pin is None:
                with suppress(OSError):
                    given += segment.memory.purge()
        return given

    def resident(self) -> int | None:
        """Bytes of it in RAM; None where nobody says."""
        try:
            return sum(segment.memory.resident() for segment in self._segments.values())
        except OSError:
            return None

    def pinned(self) -> int:
        """Bytes the kernel cannot take."""
        return 0 if self._open is None else self._open.nbytes

    @property
    def segments(self) -> int:
        """Pieces of memory."""
        return len(self._segments)

    def overhead(self) -> int:
        """Bytes of ordinary memory that grow with the entries: the table, and what says which memory has which."""
        hashes = sum(segment.hashes.buffer_info()[1] * 8 for segment in self._segments.values())
        return SlotIndex.nbytes(self.index.capacity) + hashes


def _nothing(_slot: int) -> bool:
    return False


def _everything(_slot: int) -> bool:
    return True


_WORTH_ASKING = 32 << 20
_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE, which fcntl has not
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE | fcntl.F_SEAL_SEAL
