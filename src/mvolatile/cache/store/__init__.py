"""Bytes in volatile memory, by key. Nothing here knows what they mean, or which of them should go.

The map, from the bottom up::

    locator.py     where a value is, in one integer     overhead.py    what it costs beside
    segment.py     many small values                    large.py       one large value
    sizes.py       how large a segment is               regions.py     all of them, and what they take
    contents.py    index, regions, open segments: in    store.py       out; moving and forgetting, step by step
    mend.py        order after an interrupt             published.py   reading what nobody writes any more
"""

from __future__ import annotations

from .contents import DEAR, NO_CLASS, stores
from .large import LargeValue, read_bytes, read_held
from .locator import KIND_BITS, KIND_MASK, SLOTS, region_of, slot_of
from .mend import mend
from .overhead import of_entry
from .regions import Region
from .segment import NOBODY, Segment
from .sizes import SMALLEST_SEGMENT, segment_bytes
from .store import FRESH, KEPT, Store

__all__ = [
    "DEAR",
    "FRESH",
    "KEPT",
    "KIND_BITS",
    "KIND_MASK",
    "NOBODY",
    "NO_CLASS",
    "SLOTS",
    "SMALLEST_SEGMENT",
    "LargeValue",
    "Region",
    "Segment",
    "Store",
    "mend",
    "of_entry",
    "read_bytes",
    "read_held",
    "region_of",
    "segment_bytes",
    "slot_of",
    "stores",
]
