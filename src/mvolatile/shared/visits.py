"""How often each record was read, as clients say, and what it took to make."""

from __future__ import annotations

from typing import Protocol

from .index import Index

__all__ = ["Uses", "Visits"]


class Uses(Protocol):
    """What all clients say together. `Clients` has it."""

    def uses(self, slot: int, generation: int, /) -> int:
        """Of a slot of the table of that generation, since they were forgotten; at most 255."""
        ...

    def forget_uses(self, slot: int, generation: int, /) -> None:
        """It counts anew."""
        ...

    def counts(self) -> tuple[int, int, int]:
        """Hits, misses, purged."""
        ...


class Visits:
    """By the hash of a key. The slot is looked up each time: a table that grows moves all."""

    def __init__(self, index: Index, uses: Uses) -> None:
        self.is_deaf = False
        """Nobody is heard: something has to go now, and clients may say without end that all is in use."""
        self.counts = uses.counts
        self._index, self._uses = index, uses

    def of(self, key: int) -> int | None:
        """Since they were forgotten. None for a key that has no record."""
        at = self._index.slots.find(key)
        if at < 0:
            return None
        return 0 if self.is_deaf else self._uses.uses(at, self._index.generation)

    def cost(self, key: int) -> int:
        """The class of what its value took to make; 0 if nobody knows, or there is none."""
        slots = self._index.slots
        at = slots.find(key)
        return 0 if at < 0 else slots.get(at)[6]

    def forget(self, key: int) -> None:
        """It counts anew."""
        at = self._index.slots.find(key)
        if at >= 0:
            self._uses.forget_uses(at, self._index.generation)
