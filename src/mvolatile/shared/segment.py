"""A piece of the keeper's memory."""

from __future__ import annotations

from array import array

from ..memory import Pin, VolatileMemory

__all__ = ["Segment"]


class Segment:
    """A piece of memory; `live` are the bytes of its records that the index has, `hashes` all it ever had."""

    __slots__ = ("hashes", "live", "memory", "nbytes", "pin", "start", "used")

    def __init__(self, nbytes: int, name: str) -> None:
        self.memory = VolatileMemory(nbytes, name)
        self.pin: Pin | None = self.memory.pin(write=True)
        self.pin.__enter__()
        self.start = self.memory.address
        self.nbytes = nbytes
        self.used = self.live = 0
        self.hashes = array("Q")

    def seal(self) -> None:
        """From now on the kernel may take it."""
        if self.pin is not None:
            pin, self.pin = self.pin, None
            pin.__exit__(None, None, None)

    def drop(self) -> None:
        """Give the memory back."""
        self.seal()
        self.memory.close()

    def is_resident(self) -> bool:
        """Whether all that was written is in RAM. False where nobody says, and for what is swapped out."""
        try:
            return self.memory.resident() >= self.used
        except OSError:
            return False
