"""Where the index says a value is: one integer, ``region number << 21 | slot << 4 | kind``.

Region numbers are never used twice, so a locator that outlived its region finds nothing, and never another's value.
`_core` reads them too (`Lookup`).
"""

from __future__ import annotations

__all__ = ["KIND_BITS", "KIND_MASK", "NUMBER_SHIFT", "SLOTS", "region_of", "slot_of"]

KIND_BITS = 4
KIND_MASK = (1 << KIND_BITS) - 1
NUMBER_SHIFT = 21
SLOTS = 1 << NUMBER_SHIFT - KIND_BITS
"""Values that a region can have."""


def region_of(locator: int) -> int:
    """The region's number."""
    return locator >> NUMBER_SHIFT


def slot_of(locator: int) -> int:
    """The slot in its region."""
    return locator >> KIND_BITS & SLOTS - 1
