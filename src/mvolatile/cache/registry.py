"""All caches of this process."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from .cache import VolatileCache

__all__ = ["Known", "caches", "enter"]

T = TypeVar("T")


class Known(Generic[T]):
    """Those of one kind, held weakly. Threads: any."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def enter(self, cache: T) -> None:
        """Have it among them as long as it lives."""
        self._known[id(cache)] = cache

    def open(self) -> list[T]:
        """Those that are not closed."""
        # Not list(values()): another thread that makes one meanwhile would end the iteration with an error.
        return [
            cache for known in self._known.valuerefs() if (cache := known()) is not None and not cache.closed
        ]


_known: Known[VolatileCache[Any, Any]] = Known()
enter = _known.enter


def caches() -> list[VolatileCache[Any, Any]]:
    """Every open cache of this process, those of decorated functions too, in no order: to clear or to count them all.

    Held weakly: what nobody else holds is not among them. From any thread; a forked child has its own.

    >>> import mvolatile
    >>> cache = mvolatile.VolatileCache(name="tiles")
    >>> cache in mvolatile.caches()
    True
    """
    return _known.open()
