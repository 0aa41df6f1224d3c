"""Pieces of the keeper's memory."""

from __future__ import annotations

from array import array

from ..memory import Pin, VolatileMemory

__all__ = ["Segment", "Spare", "rounded"]

MOST_SPARE = 16 << 20
"""Bytes of volatile memory that wait for the next that is stored."""


class Segment:
    """A piece of memory; `live` are the bytes of its records that the index has, `hashes` all it ever had."""

    __slots__ = ("hashes", "live", "memory", "nbytes", "pin", "start", "used")

    def __init__(self, nbytes: int, name: str) -> None:
        self.memory = VolatileMemory(nbytes, name)
        self.start = self.memory.address
        self.nbytes = nbytes
        self.begin()

    def begin(self) -> None:
        """Hold it, to be filled. What was there, no slot tells of any more; and what of that was purged is filled."""
        self.used = self.live = 0
        self.hashes = array("Q")
        self.pin: Pin | None = self.memory.pin(write=True, on_purge="zero")
        self.pin.__enter__()

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


class Spare:
    """Segments that nothing is in any more. They are volatile; to fill one again costs no page faults."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._nbytes = 0

    def keep(self, segment: Segment) -> None:
        """No slot tells of anything in it."""
        segment.seal()
        self._segments.append(segment)
        self._nbytes += segment.nbytes
        while self._nbytes > MOST_SPARE:
            self._drop_oldest()

    def take(self, nbytes: int) -> Segment | None:
        """The newest of that size, since its pages are the likeliest to be there still."""
        for at in range(len(self._segments) - 1, -1, -1):
            if self._segments[at].nbytes == nbytes:
                segment = self._segments.pop(at)
                self._nbytes -= nbytes
                segment.begin()
                return segment
        return None

    def drop(self) -> None:
        """Give all of it back."""
        while self._segments:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._segments.pop(0)
        self._nbytes -= oldest.nbytes
        oldest.drop()


def rounded(nbytes: int) -> int:
    """To one of eight sizes between powers of two, so that what left fits what comes."""
    step = max(4096, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
