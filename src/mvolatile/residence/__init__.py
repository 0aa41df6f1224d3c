"""Room for others, by number: what volatile memory may add to this process's RSS, for whoever looks at that.

The core keeps the limit (`_core/protocol/residence.h` argues it), before the first byte. Here is what it is.

The map::

    sizes.py       sizes and shares as people write them
    recyclers.py   who restarts, pauses or kills this process for its RSS, as far as that can be known in it
    others.py      what the process takes beside volatile memory, which is what those leave us less
    limit.py       the limit that was set, or follows from all this; looked at again by and by
    usage.py       the figures: `memory_usage()`
"""

from __future__ import annotations

from .limit import before_more, resident_limit, room, set_resident_limit, told_limit
from .recyclers import Of, Recycler, recyclers
from .sizes import Share, size_or_share
from .usage import MemoryUsage, memory_usage

__all__ = [
    "MemoryUsage",
    "Of",
    "Recycler",
    "Share",
    "before_more",
    "memory_usage",
    "recyclers",
    "resident_limit",
    "room",
    "set_resident_limit",
    "size_or_share",
    "told_limit",
]
