"""All caches of this process."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache import VolatileCache

__all__ = ["caches", "enter"]

_known: weakref.WeakValueDictionary[int, VolatileCache[Any, Any]] = weakref.WeakValueDictionary()


def enter(cache: Any) -> None:
    """Have it among `caches` as long as it lives."""
    _known[id(cache)] = cache


def caches() -> list[VolatileCache[Any, Any]]:
    """Every open cache of this process, those of decorated functions too, in no order: to clear or to count them all.

    Held weakly: what nobody else holds is not among them. From any thread; a forked child has its own.

    >>> import mvolatile
    >>> cache = mvolatile.VolatileCache(name="tiles")
    >>> cache in mvolatile.caches()
    True
    """
    # Not list(_known.values()): another thread that makes one meanwhile would end the iteration with an error.
    return [cache for known in _known.valuerefs() if (cache := known()) is not None and not cache.closed]
