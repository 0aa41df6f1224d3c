"""A large value: a region of its own, with one slot. It is volatile from the moment it is whole."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any

from ..._core import OneValue
from ...errors import Purged
from ...memory import VolatileMemory, whole_hold
from .overhead import OWN_MEMORY, of_entry
from .published import read_published

__all__ = ["LargeValue", "read_bytes", "read_held"]


def read_bytes(memory: VolatileMemory, nbytes: int) -> Any:
    """A copy."""
    return read_published(memory, 0, nbytes)


def read_held(memory: VolatileMemory, nbytes: int) -> Any:
    """A hold: the memory stays pinned as long as whatever is made over it lives."""
    return whole_hold(memory)


class LargeValue(OneValue):
    """`memory` has the bytes already. `reader` makes of it what `read` answers. `expires` is its owner's."""

    __slots__ = (
        "_reader",
        "expires",
        "gone",
        "keys",
        "kind",
        "memory",
        "overhead",
        "since",
    )

    dead = emptied = emptied_overhead = passed = 0
    is_open = False
    is_large = True

    def __init__(
        self,
        number: int,
        key: Hashable,
        kind: int,
        nbytes: int,
        memory: VolatileMemory,
        reader: Callable[[VolatileMemory, int], Any] = read_bytes,
        queue: int = 0,
        expires: float | None = None,
        cost: int = 0,
    ) -> None:
        self.number = number
        self.queue = queue
        self.since = monotonic()
        self.keys: list[Hashable] = [key]
        self.kind = kind
        self.used = nbytes
        self.overhead = OWN_MEMORY + of_entry(key)
        self.memory = memory
        self.expires = expires
        self.gone = False
        self._reader = reader
        self.took = cost

    def read(self, slot: int) -> Any:
        """What `reader` makes of it; `Purged` if any of it was lost."""
        return self._reader(self.memory, self.used)

    def probe(self, slot: int) -> bytes:
        """As `read`, for the exception alone."""
        if self.memory.purged():
            raise Purged(self.memory.name)
        return b""

    @property
    def table(self) -> LargeValue:
        """What stands for it among the slot tables."""
        return self

    def usual_cost(self) -> float:
        """The class, too."""
        return self.took

    def seal(self) -> None:
        """It is volatile already."""

    def mend(self) -> None:
        """It was whole when it was published."""
