"""What ``items()`` and ``values()`` of a shared cache answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .._core import MISSING
from .values import Items, Values

__all__ = ["SharedItems", "SharedValues"]

Find = Callable[[Any], Any]
"""The value of a key, or `MISSING`."""


def _pairs(cache: Any, find: Find) -> Iterator[tuple[Any, Any]]:
    for key in cache:
        value = find(key)
        if value is not MISSING:
            yield key, value


class SharedItems(Items):
    """What is gone by its turn is left out."""

    def __init__(self, cache: Any, find: Find) -> None:
        super().__init__(cache)
        self._find = find

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return _pairs(self._mapping, self._find)


class SharedValues(Values):
    """Of those."""

    def __init__(self, cache: Any, find: Find) -> None:
        super().__init__(cache)
        self._find = find

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in _pairs(self._mapping, self._find))
