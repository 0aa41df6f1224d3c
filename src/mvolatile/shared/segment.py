"""Pieces of the keeper's memory. Records share one, which is filled front to back under a pin and volatile from then
on; or a large one has its own.

Once memory is volatile nothing holds, peeks at or surveys it again, since that fills what was purged: a purged page
must answer `EFAULT` until the memory is given back.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import count
from time import monotonic

from .._core import purge
from ..memory import Pin, VolatileMemory
from .visits import Visits

__all__ = ["ALIGNMENT", "HUGE", "SEGMENT", "TIMES", "Segment", "Spare", "bytes_for", "rounded"]

ALIGNMENT = 16
MOST_SPARE, PART_SPARE = 16 << 20, 128
"""Bytes of volatile memory that wait for the next that is stored: at most so many, and such a part of what is held. The
kernel takes values before them, which are older; so they are values that cannot be held.
"""
SEGMENT = 256 << 10
"""What small records share."""
HUGE = 2 << 20
"""What large ones share, or twice or four times as much: others copy from huge pages twice as fast, and to fill them
takes no page fault for each 4 KiB.
"""
TIMES = 8
"""How many times as much a cache holds as what is shared: what is being filled is held, and a small cache shall hold
little.
"""

LARGE = 32
"""How many times as much it holds as twice that is shared: less is left over behind records then."""

_numbers = count(1)


def bytes_for(record: int, is_small: bool, held: int) -> int:
    """Of the memory that a record shares with others, in a cache that holds so much; 0: it gets memory of its own. Up
    to 1 MiB at most an eighth is left over behind records of one size.
    """
    if is_small:
        return SEGMENT
    shared = HUGE if record <= HUGE // 8 else 2 * HUGE if record <= HUGE // 4 else 4 * HUGE
    if held >= 2 * shared * LARGE:
        shared *= 2
    return shared if record <= HUGE and held >= shared * TIMES else 0


class Segment:
    """A region, as eviction policies see one (`cache/eviction/policy.py`): of each record it ever had, `keys` has the
    hash of the key. `live` are the bytes of the records that the index has, `given` those at the front that went back
    to the kernel.
    """

    __slots__ = (
        "_offsets",
        "_visits",
        "began",
        "emptied",
        "given",
        "is_large",
        "keys",
        "live",
        "memory",
        "nbytes",
        "number",
        "passed",
        "pin",
        "queue",
        "start",
        "used",
    )

    def __init__(self, nbytes: int, name: str, visits: Visits) -> None:
        self.memory = VolatileMemory(nbytes, name)
        self.start = self.memory.address
        self.nbytes = nbytes
        self.pin: Pin | None = None
        self._visits = visits

    def begin(self, queue: int, is_large: bool) -> None:
        """Hold it, to be filled. What was there, no slot tells of any more; and what of that was purged is filled."""
        self.number = next(_numbers)
        self.began = monotonic()
        self.queue, self.is_large = queue, is_large
        self.used = self.live = self.emptied = self.passed = self.given = 0
        self.keys, self._offsets = array("Q"), array("H" if self.nbytes <= ALIGNMENT << 16 else "I")
        self.pin = self.memory.pin(write=True, on_purge="zero")
        self.pin.__enter__()

    @property
    def is_open(self) -> bool:
        """Whether it is being filled."""
        return self.pin is not None

    def append(self, key: int, address: int, nbytes: int) -> int:
        """A record was written there. By how much the segment is fuller."""
        used, self.used = self.used, address + nbytes - self.start
        self.keys.append(key)
        self._offsets.append((address - self.start) // ALIGNMENT)
        self.live += nbytes
        return self.used - used

    def address(self, slot: int) -> int:
        """Of a record."""
        return self.start + self._offsets[slot] * ALIGNMENT

    def size(self, slot: int) -> int:
        """Its bytes, up to the next."""
        end = self.start + self.used if slot + 1 == len(self.keys) else self.address(slot + 1)
        return end - self.address(slot)

    def visits(self, slot: int) -> int:
        """How often it was read since the evictor passed."""
        return self._visits.of(self.keys[slot]) or 0

    def cost(self, slot: int) -> int:
        """The class of what it took to make, as its maker told; 0 if nobody knows. Of one that the index has."""
        return self._visits.cost(self.keys[slot])

    def stay(self, queue: int, visits: int) -> None:
        """The evictor passed a large one, and left it."""
        self.queue = queue
        if not visits:
            self._visits.forget(self.keys[0])

    def seal(self) -> None:
        """From now on the kernel may take it."""
        if self.pin is not None:
            pin, self.pin = self.pin, None
            pin.__exit__(None, None, None)

    def empty(self, to: int) -> None:
        """No slot tells of anything in the first bytes: the huge pages there go back to the kernel."""
        self.emptied = to
        to -= to % HUGE
        if to > self.given and not self.is_open:
            with suppress(OSError):
                purge(self.memory, self.given, to - self.given)
            self.given = to

    def drop(self) -> None:
        """Give the memory back."""
        self.seal()
        self.memory.close()

    def is_resident(self) -> bool:
        """Whether all that was written is in RAM. False where nobody says, and for what is swapped out."""
        try:
            return self.memory.resident() >= self.used - self.given
        except OSError:
            return False


class Spare:
    """Segments that nothing is in any more. They are volatile; to fill one again costs no page faults."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self.nbytes = 0

    def keep(self, segment: Segment, held: int) -> None:
        """No slot tells of anything in it. The last one stays, however large it is beside what is held."""
        segment.seal()
        self._segments.append(segment)
        self.nbytes += segment.nbytes - segment.given
        while self.nbytes > MOST_SPARE or (self.nbytes > held // PART_SPARE and len(self._segments) > 1):
            self._drop_oldest()

    def take(self, least: int, most: int) -> Segment | None:
        """The newest of such a size, since its pages are the likeliest to be there still."""
        for at in range(len(self._segments) - 1, -1, -1):
            if least <= self._segments[at].nbytes <= most:
                segment = self._segments.pop(at)
                self.nbytes -= segment.nbytes - segment.given
                return segment
        return None

    def drop(self) -> None:
        """Give all of it back."""
        while self._segments:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._segments.pop(0)
        self.nbytes -= oldest.nbytes - oldest.given
        oldest.drop()


def rounded(nbytes: int) -> int:
    """To one of eight sizes between powers of two, so that what left fits what comes."""
    step = max(4096, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
