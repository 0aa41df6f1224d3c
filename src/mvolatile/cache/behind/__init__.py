"""A second tier behind a cache: what it keeps in any mapping of bytes, and finds there when memory has it no more.

records.py   values as they lie there       pending.py   what is still to be done there, and what that means
writer.py    who does it                    tier.py      one cache's: keys, errors, counts
"""

from __future__ import annotations

from .tier import Mode, Tier, Written, checked_behind

__all__ = ["Mode", "Tier", "Written", "checked_behind"]
