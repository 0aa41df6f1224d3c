"""A second tier behind a cache: what it keeps in any mapping of bytes, and finds there when memory has it no more.

records.py   values as they lie there       pending.py   what is still to be done there, and what that means
writer.py    who does it                    room.py      who waits where too much is due
tier.py      one cache's: keys, errors, counts
"""

from __future__ import annotations

from .pending import CLEAR
from .records import NO_END, Record
from .tier import QUEUE, Behind, Tier, Written, prefix_of

__all__ = [
    "CLEAR",
    "NO_END",
    "QUEUE",
    "Behind",
    "Record",
    "Tier",
    "Written",
    "prefix_of",
]
