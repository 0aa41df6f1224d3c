"""Why a key left, and telling a program of each that did."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal, TypeAlias

__all__ = ["Why", "tell_each"]

Why: TypeAlias = Literal[
    "purged", "evicted", "expired", "replaced", "deleted", "cleared", "orphaned", "undecodable"
]
"""*Purged*: the kernel took the value. *Evicted*: the cache gave it up, for a bound or for want of room. *Orphaned*:
the object died that a method's value was made for. *Undecodable*: it was there, and could not be made of its bytes. The
rest is the program's own doing, or its ttl's.
"""


def tell_each(tell: Callable[[Any, Why], object], departures: Iterable[tuple[Hashable, Why]]) -> None:
    """Call `tell` for each: what it raises for one key, which `threading.excepthook` gets, keeps no other from it."""
    for key, why in departures:
        try:
            tell(key, why)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
