"""Reading bytes that nobody writes any more."""

from __future__ import annotations

from ...errors import Overwritten
from ...memory import VolatileMemory

__all__ = ["read_published"]


def read_published(memory: VolatileMemory, at: int, n: int) -> bytes:
    """A copy; `Purged` if any of them was lost."""
    try:
        return memory.read(at, n)
    except Overwritten:
        # A reader that began before the region was sealed has not let the write pin go yet.
        with memory.pin() as view:
            return bytes(view[at : at + n])
