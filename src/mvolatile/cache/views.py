"""`items()` and `values()` of a cache: a value that goes while they are read is left out, and no `KeyError`."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any, TypeAlias

from .._core import MISSING

__all__ = ["Items", "Values"]


Find: TypeAlias = Callable[[Any], Any]
"""The value of a key, or `MISSING`."""


def _pairs(keys: Iterable[Any], find: Find) -> Iterator[tuple[Any, Any]]:
    for key in keys:
        value = find(key)
        if value is not MISSING:
            yield key, value


class Items(ItemsView[Any, Any]):
    """Pairs of key and value, each read when its turn comes."""

    _mapping: Any

    def __init__(self, cache: Mapping[Any, Any], keys: Iterable[Any], find: Find) -> None:
        super().__init__(cache)
        self._keys, self._find = keys, find

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return _pairs(self._keys, self._find)

    def __contains__(self, item: Any) -> bool:
        return item[0] in self._mapping and super().__contains__(item)  # what can be no key raises nothing


class Values(ValuesView[Any]):
    """Values, each read when its turn comes."""

    _mapping: Any

    def __init__(self, cache: Mapping[Any, Any], keys: Iterable[Any], find: Find) -> None:
        super().__init__(cache)
        self._keys, self._find = keys, find

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in _pairs(self._keys, self._find))

    def __contains__(self, value: object) -> bool:
        return any(value is another or value == another for another in self)
