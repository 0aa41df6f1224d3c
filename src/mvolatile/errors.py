"""Every exception and warning that mvolatile raises on its own account.

Misuse stays `ValueError`, `TypeError` or `BufferError`, and the kernel's refusals stay `OSError` naming the call.
"""

from __future__ import annotations

__all__ = [
    "MvolatileError",
    "NoRoomError",
    "NoThreadWarning",
    "NondeterminismError",
    "NotWhole",
    "Overwritten",
    "Purged",
    "TooLargeError",
    "UnsupportedError",
    "UnsupportedKernelWarning",
    "VolatilityWarning",
]

Extents = tuple[tuple[int, int], ...]


def _shown(name: str | None) -> str:
    """A name for a message; it may come from anywhere, and must not forge a line of a log or command a terminal."""
    return repr(name)[1:-1] if name else "memory"


class MvolatileError(Exception):
    """The root of this library's own exceptions."""


class NotWhole(MvolatileError):  # noqa: N818 - as its kinds
    """What was read of a volatile memory is not its data: pages are gone (`Purged`), or a writer was there meanwhile
    (`Overwritten`). Whatever was computed of it must not be used.

    `name` is the memory's name (or None), `generation` its generation when this was reported.
    """

    def __init__(self, name: str | None = None, generation: int = 0) -> None:
        super().__init__(name, generation)
        self.name = name
        self.generation = generation


class Purged(NotWhole):  # the patch's word for it
    """The kernel took pages of a volatile memory: rebuild them, overwrite them, or accept zeros.

    `extents` are the lost byte ranges as ``((offset, length), ...)``, sorted, disjoint, in bytes from the start of the
    memory.
    """

    def __init__(self, name: str | None = None, extents: Extents = (), generation: int = 0) -> None:
        super().__init__(name, generation)
        self.args = (name, extents, generation)  # what it is pickled and copied by
        self.extents = extents

    @property
    def nbytes(self) -> int:
        """How many bytes were lost."""
        return sum(length for _, length in self.extents)

    def __str__(self) -> str:
        shown = ", ".join(f"[{offset}, {offset + length})" for offset, length in self.extents[:4])
        more = f" and {len(self.extents) - 4} more" if len(self.extents) > 4 else ""
        return f"{_shown(self.name)}: {self.nbytes} bytes purged: {shown}{more}"


class Overwritten(NotWhole):
    """A writer held the memory while it was read or peeked at, so that what was read may mix old and new bytes.

    Nothing is lost, and there is nothing to rebuild: read again, or take a pin.
    """

    def __str__(self) -> str:
        return f"{_shown(self.name)}: written to while it was read; nothing is lost, read again"


class TooLargeError(MvolatileError, ValueError):
    """The value is larger than a cache's `max_bytes`, so it can never be stored there."""


class NoRoomError(TooLargeError, MemoryError):
    """The value would not fit into the memory of the machine or the container, even if everything volatile went: to
    store it would get a process killed.
    """


class NondeterminismError(MvolatileError):
    """A system that is being explored did something else when the same schedule was run again.

    It keeps state where the explorer cannot see it (a global, a mutable object, a clock, the order of a set), so no
    result about it can be trusted.
    """


class UnsupportedError(MvolatileError):
    """This kernel, or this container, cannot do what was asked for; the message says what would be needed."""


class UnsupportedKernelWarning(UserWarning):
    """Nothing can be purged here: the library gives right answers, but volatile memory stays resident."""


class VolatilityWarning(RuntimeWarning):
    """Something works, but not as it should: the kernel refused to make a memory volatile, whose data is safe, but is
    not given back under pressure; or a cache could not store what a function made, and returned it all the same.
    """


class NoThreadWarning(RuntimeWarning):
    """A thread that the library wants is not to be had; what it does without is in the message. Said once of each."""
