"""Overhead: the ordinary memory that values need beside their bytes, which the kernel cannot take. Estimates."""

from __future__ import annotations

from collections.abc import Hashable
from sys import getsizeof

__all__ = ["OWN_MEMORY", "of_entry"]

ENTRY, OBJECT, OWN_MEMORY = 120, 200, 1000
"""Bytes that an entry costs beside its value and its key: the index, the locator, the slot and the allocator's
rounding; an object as key, which may be anything; and what a memory of its own costs.
"""


def of_entry(key: Hashable) -> int:
    """About how many bytes a value takes beside itself."""
    kind = type(key)
    if kind is int or kind is str:
        return ENTRY + getsizeof(key)
    return ENTRY + _of_key(key)


def _of_key(key: Hashable) -> int:
    kind = type(key)
    if kind is int or kind is str or kind is bytes or kind is float:
        return getsizeof(key)
    return getsizeof(key) + sum(map(_of_key, key)) if isinstance(key, tuple) else OBJECT
