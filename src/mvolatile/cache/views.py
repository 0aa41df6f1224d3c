"""`items()` and `values()` of a cache: a value that goes while they are read is left out, and no `KeyError`."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any

from .._core import MISSING
from .engine import engine_of

__all__ = ["Items", "Values"]


def _pairs(cache: Any) -> Iterator[tuple[Any, Any]]:
    engine = engine_of(cache)
    for key in engine.index:
        value = engine.find(key)
        if value is not MISSING:
            yield key, value


class Items(ItemsView[Any, Any]):
    """Pairs of key and value, each read when its turn comes."""

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return _pairs(self._mapping)

    def __contains__(self, item: Any) -> bool:
        return item[0] in self._mapping and super().__contains__(item)  # what can be no key raises nothing


class Values(ValuesView[Any]):
    """Values, each read when its turn comes."""

    _mapping: Any

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in _pairs(self._mapping))

    def __contains__(self, value: object) -> bool:
        return any(value is another or value == another for another in self)
