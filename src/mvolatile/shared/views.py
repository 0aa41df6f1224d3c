"""What ``items()`` and ``values()`` of a shared cache answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._core import MISSING
from .values import Items, Values

__all__ = ["SharedItems", "SharedValues"]


class SharedItems(Items):
    """What is gone by its turn is left out."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for key in self._mapping:
            value = self._mapping._find(key)  # noqa: SLF001 - the cache's own view
            if value is not MISSING:
                yield key, value


class SharedValues(Values):
    """Of those."""

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in SharedItems(self._mapping))
