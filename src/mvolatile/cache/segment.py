"""Where values lie: segments that many small values share, and ranges of their own for large ones.

Both are *shelves* to the index. A locator is one integer, ``shelf number << 21 | slot << 4 | kind``; shelf numbers
are never used twice, so a locator that outlived its shelf finds nothing, and never another's value.

A segment is open at first: held by one write pin, filled front to back. Published bytes are never written again,
so readers of an open segment need no lock. To seal it is to let the pin go: it is volatile from then on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

from ..errors import Overwritten
from ..memory import VolatileMemory
from .values import BYTES, Encoded, write_parts

__all__ = ["KIND_BITS", "NUMBER_SHIFT", "SLOTS", "Range", "Segment", "Shelf"]

KIND_BITS = 4
NUMBER_SHIFT = 21
SLOTS = 1 << NUMBER_SHIFT - KIND_BITS

Reader: TypeAlias = Callable[[int, int], Any]


class Segment:
    """`capacity` bytes for many values. Slot i has the key `keys[i]`, the bytes from ``starts[i]`` to
    ``starts[i + 1]``, and `marks[i]`, set when it was read.
    """

    __slots__ = ("capacity", "dead", "gone", "keys", "marks", "memory", "number", "starts", "view")

    def __init__(self, number: int, capacity: int, name: str) -> None:
        self.number = number
        self.capacity = capacity
        self.memory = VolatileMemory(capacity, name)
        self.view: memoryview | None = memoryview(self.memory._hold(True))
        self.starts = array("I", [0])
        self.marks = bytearray()
        self.keys: list[Hashable] = []
        self.dead = 0  # bytes of values that were overwritten or deleted
        self.gone = False

    @property
    def used(self) -> int:
        """Bytes taken, by dead values too."""
        return self.starts[-1]

    def has_room(self, nbytes: int) -> bool:
        """Whether a value of so many bytes fits."""
        return self.view is not None and self.used + nbytes <= self.capacity and len(self.keys) < SLOTS

    def append(self, key: Hashable, data: bytes, mark: int = 0) -> int:
        """Write a value that fits; answers its slot, which nobody knows yet."""
        slot, at = len(self.keys), self.used
        assert self.view is not None
        self.view[at : at + len(data)] = data
        self.keys.append(key)
        self.marks.append(mark)
        self.starts.append(at + len(data))
        return slot

    def mend(self) -> None:
        """After an append that was interrupted: its slot was not published, so it may go."""
        whole = len(self.starts) - 1
        del self.keys[whole:], self.marks[whole:]

    def seal(self) -> None:
        """Let the kernel have it."""
        view, self.view = self.view, None
        if view is not None:
            view.release()

    def reader(self) -> Reader:
        """What reads it as it is now: ``reader(offset, n) -> bytes``, or `Purged`; `ValueError` once an open
        segment is sealed.
        """
        view = self.view
        if view is None:
            return self.memory.read

        def read(at: int, n: int) -> bytes:
            return view[at : at + n].tobytes()

        return read

    def fetch(self, slot: int) -> bytes:
        """The bytes of a slot; `Purged` if they were lost."""
        at = self.starts[slot]
        n = self.starts[slot + 1] - at
        if self.view is not None:
            return self.view[at : at + n].tobytes()
        try:
            return self.memory.read(at, n)
        except Overwritten:
            # A reader that began before the segment was sealed has not let the write pin go yet. Nobody writes.
            with self.memory.pin() as view:
                return bytes(view[at : at + n])


class Range:
    """A value with a `VolatileMemory` of its own: a shelf with one slot.

    Its reader gives bytes, or a pin to make arrays over: the memory stays pinned as long as one of them lives.
    """

    __slots__ = ("expires", "gone", "keys", "kind", "marks", "memory", "number", "starts", "timer", "used")

    dead = 0
    view = None

    def __init__(
        self,
        number: int,
        key: Hashable,
        encoded: Encoded,
        name: str,
        expires: float | None,
        timer: Callable[[], float],
    ) -> None:
        self.number = number
        self.keys: list[Hashable] = [key]
        self.marks = bytearray(1)
        self.starts: Sequence[int] = (0, 0)
        self.used = encoded.nbytes
        self.kind = encoded.kind
        self.expires = expires
        self.timer = timer
        self.gone = False
        self.memory = VolatileMemory(max(1, encoded.nbytes), name)
        if len(encoded.parts) == 1:
            self.memory.write(encoded.parts[0])
        else:
            with memoryview(self.memory._hold(True)) as view:
                write_parts(encoded.parts, view)

    def read(self, at: int = 0, n: int = 0) -> Any:
        """What `decode` makes the value of; `Purged` if any of it was lost, `KeyError` if its time is over."""
        if self.expires is not None and self.timer() >= self.expires:
            raise KeyError(self.keys[0])
        if self.kind == BYTES:
            return self.memory.read(0)
        return self.memory._whole_hold()

    def fetch(self, slot: int) -> Any:
        """As `read`."""
        return self.read()

    def reader(self) -> Reader:
        """See `Segment.reader`; this one takes no heed of its arguments."""
        return self.read

    def seal(self) -> None:
        """It is volatile already."""

    def mend(self) -> None:
        """It was whole when it was published."""


Shelf: TypeAlias = Segment | Range
