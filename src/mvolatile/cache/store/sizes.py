"""How large a segment is to be, and which values are large."""

from __future__ import annotations

__all__ = ["OWN_MEMORY", "OWN_PAGES", "PAGE", "SMALLEST_SEGMENT", "VALUES", "segment_bytes"]

SMALLEST_SEGMENT, LARGEST_SEGMENT = 4096, 2 << 20
FIRST_SEGMENT, FIRST_OF_MANY = 64 << 10, 8 << 10
ALL_FIRST = 4 << 20
"""A segment being filled is held. A thousand small caches would hold all their memory, so theirs begin smaller."""
VALUES, PAGE = 3, 4096
"""A new segment has room for so many values like the first one: with fewer, much of it would stay empty."""
MOST_SEGMENTS = 8192
"""From here on segments grow: each is a mapping, and a process may have 65,530."""

OWN_MEMORY = 64 << 10
"""Values from this size on get memory of their own: a hit is a system call or two, and no copy."""

OWN_PAGES = 16 << 10
"""So do those from this size on that would waste much of a segment; smaller ones would waste much of a page."""


def segment_bytes(nbytes: int, most: int | None, stores: int) -> int:
    """Small beside the whole, so that little is open or moved at once. `nbytes` are stored; `most` is what they may
    come to, if that is known; `stores` is how many there are in this process.
    """
    total = nbytes if most is None else min(most, 64 * LARGEST_SEGMENT)
    if total > MOST_SEGMENTS * LARGEST_SEGMENT:
        return 1 << (total // MOST_SEGMENTS).bit_length()
    wanted = 1 << max(0, (total // 64).bit_length() - 1)
    least = SMALLEST_SEGMENT
    if most is None:
        share = 1 << (ALL_FIRST // max(1, stores)).bit_length() >> 1
        least = max(FIRST_OF_MANY, min(share, FIRST_SEGMENT))
    return max(least, min(wanted, LARGEST_SEGMENT))
