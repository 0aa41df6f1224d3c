"""Where values lie: segments that many small values share, and ranges of their own for large ones.

Both are *shelves* to the index. A locator is one integer, ``shelf number << 21 | slot << 4 | kind``; shelf numbers
are never used twice, so a locator that outlived its shelf finds nothing, and never another's value.

A segment is open at first: held by one write pin, filled front to back. Published bytes are never written again,
so readers of an open segment need no lock. Offsets, marks and the fast way to read are in C
(`_core/cache/shelf.c`). To seal it is to let the pin go: it is volatile from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from sys import getsizeof
from typing import Any, TypeAlias

from .. import _core
from .._core import Shelf as Row
from ..errors import Overwritten, Purged
from ..memory import VolatileMemory, whole_hold
from .values import ARRAY, BYTES, MADE, Encoded, array_maker, write_parts

__all__ = ["KIND_BITS", "NOBODY", "NUMBER_SHIFT", "SLOTS", "Range", "Segment", "Shelf"]

KIND_BITS = 4
NUMBER_SHIFT = 21
SLOTS = 1 << NUMBER_SHIFT - KIND_BITS

NOBODY = object()
"""The key of a slot that was never published, or of nothing."""

ENTRY, OBJECT, OWN_MEMORY = 120, 200, 1000
"""Bytes of ordinary memory that an entry costs beside its value and its key: the index, the locator, the slot and the
allocator's rounding; an object as key, which may be anything; and what a memory of its own costs.
"""


def weight(key: Hashable) -> int:
    """About how many bytes a key takes."""
    kind = type(key)
    if kind is int or kind is str or kind is bytes or kind is float:
        return getsizeof(key)
    return getsizeof(key) + sum(map(weight, key)) if isinstance(key, tuple) else OBJECT


def read_published(memory: VolatileMemory, at: int, n: int) -> bytes:
    """Bytes that nobody writes any more; `Purged` if they were lost."""
    try:
        return memory.read(at, n)
    except Overwritten:
        # A reader that began before the segment was sealed has not let the write pin go yet.
        with memory.pin() as view:
            return bytes(view[at : at + n])


class Segment:
    """A memory for many values: slot i of `row` has the key ``keys[i]``."""

    __slots__ = (
        "beside",
        "capacity",
        "dead",
        "emptied",
        "emptied_beside",
        "gone",
        "keys",
        "memory",
        "number",
        "row",
        "view",
    )

    def __init__(self, number: int, memory: VolatileMemory) -> None:
        self.number = number
        self.capacity = memory.nbytes
        self.memory = memory
        self.view: memoryview | None = memoryview(_core.hold(memory, True))
        if _core.is_lossy(memory):
            _core.forgive(memory)  # a former owner's loss
        self.row = Row(self.memory)
        self.keys: list[Hashable] = []
        self.dead = 0  # bytes of values that were overwritten or deleted
        self.emptied = 0  # bytes, from the front, that were moved or given up
        self.beside = OWN_MEMORY  # ordinary memory that it and its entries cost
        self.emptied_beside = 0
        self.gone = False

    @property
    def used(self) -> int:
        """Bytes taken, by dead values too."""
        return self.row.used

    def has_room(self, nbytes: int) -> bool:
        """Whether a value of so many bytes fits. Not where a forked child did not inherit what was held: all that is
        stored there would count as lost with it.
        """
        if self.view is None or _core.is_lossy(self.memory):
            return False
        return self.row.used + nbytes <= self.capacity and len(self.keys) < SLOTS

    def append(self, key: Hashable, data: bytes, mark: int = 0) -> int:
        """Write a value that fits; answers its slot, which nobody knows yet."""
        if len(self.keys) != self.row.count:
            self.mend()
        slot = self.row.append(data, mark)
        self.keys.append(key)
        self.beside += ENTRY + weight(key)
        return slot

    def mend(self) -> None:
        """After an append that was interrupted: its slot was not published, and is nobody's."""
        while len(self.keys) < self.row.count:
            self.keys.append(NOBODY)

    def marked(self, slot: int) -> bool:
        """Whether it was read since it was stored or moved."""
        return self.row.marked(slot)

    def mark(self, slot: int) -> None:
        """Note that it was read."""
        self.row.mark(slot)

    def size(self, slot: int) -> int:
        """Its bytes."""
        return self.row.bounds(slot)[1]

    def seal(self) -> None:
        """Let the kernel have it."""
        self.row.close()
        view, self.view = self.view, None
        if view is not None:
            view.release()

    def fetch(self, slot: int) -> bytes:
        """The bytes of a slot; `Purged` if they were lost, `ValueError` if it is being sealed or emptied now."""
        at, n = self.row.bounds(slot)
        # A forked child may not inherit what is held.
        if self.view is not None and not _core.is_lossy(self.memory):
            return self.view[at : at + n].tobytes()
        try:
            data = read_published(self.memory, at, n)
        except Purged:
            if self.row.has_memory:
                raise
            data = b""
        if not self.row.has_memory:
            raise ValueError("another segment has the memory now")
        return data

    def probe(self, slot: int) -> bytes:
        """As `fetch`, for the exceptions and the last bytes, in which its expiry is: no more than those are copied, but
        where that needs a hold.
        """
        tail = self.row.tail(slot)
        return self.fetch(slot) if tail is None else tail

    def let_go(self) -> VolatileMemory | None:
        """Its memory, to be filled by another; None if somebody holds it."""
        self.row.let_go()
        return None if _core.pins(self.memory) else self.memory


class Range:
    """A value with a `VolatileMemory` of its own: a shelf with one slot.

    Its reader gives bytes, or a pin to make arrays over: the memory stays pinned as long as one of them lives.
    """

    __slots__ = (
        "_make",
        "_marked",
        "beside",
        "expires",
        "gone",
        "keys",
        "kind",
        "memory",
        "number",
        "timer",
        "used",
    )

    dead = emptied = emptied_beside = 0
    view = None

    def __init__(
        self,
        number: int,
        key: Hashable,
        encoded: Encoded,
        memory: VolatileMemory,
        expires: float | None,
        timer: Callable[[], float],
    ) -> None:
        self.number = number
        self.keys: list[Hashable] = [key]
        self._marked = False
        self.used = encoded.nbytes
        self.beside = OWN_MEMORY + ENTRY + weight(key)
        self._make = array_maker(encoded) if encoded.kind == ARRAY else None
        self.kind = encoded.kind if self._make is None else MADE
        self.expires = expires
        self.timer = timer
        self.gone = False
        self.memory = memory
        if len(encoded.parts) == 1:
            self.memory.write(encoded.parts[0])
        else:
            with memoryview(_core.hold(self.memory, True)) as view:
                write_parts(encoded.parts, view)

    def fetch(self, slot: int) -> Any:
        """What `decode` makes the value of; `Purged` if any of it was lost, `KeyError` if its time is over."""
        self._check_time()
        if self.kind == BYTES:
            return read_published(self.memory, 0, self.used)
        hold = whole_hold(self.memory)
        return hold if self._make is None else self._make(hold)

    def probe(self, slot: int) -> bytes:
        """As `fetch`, for the exceptions alone."""
        self._check_time()
        if self.memory.purged():
            raise Purged(self.memory.name)
        return b""

    def _check_time(self) -> None:
        if self.expires is not None and self.timer() >= self.expires:
            raise KeyError(self.keys[0])

    @property
    def row(self) -> Range:
        """What stands for it among the shelves."""
        return self

    def marked(self, slot: int) -> bool:
        """Whether it was read since the hand passed."""
        return self._marked

    def mark(self, slot: int, mark: bool = True) -> None:
        """Note that it was read, or that the hand passed."""
        self._marked = mark

    def size(self, slot: int) -> int:
        """Its bytes."""
        return self.used

    def seal(self) -> None:
        """It is volatile already."""

    def mend(self) -> None:
        """It was whole when it was published."""


Shelf: TypeAlias = Segment | Range
