"""How an ndarray's items lie in memory, and what of it is worth storing.

Only called where NumPy is imported already.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any, TypeAlias

__all__ = ["Form", "array_over", "bytes_at", "described", "laid_out", "own_dtype"]

Form: TypeAlias = tuple[Any, tuple[int, ...], tuple[int, ...] | None, int]
"""A dtype or its pickle; the shape; the strides, None for C's order; the offset of the first item."""


def described(dtype: Any) -> Any:
    """A dtype that hits may share; or its pickle, of which each hit makes its own: field names and what stands in
    ``metadata`` can be changed, and whoever changed them would rename the fields of everybody's arrays.
    """
    return dtype if dtype.names is None and not dtype.metadata else pickle.dumps(dtype, 5)


def own_dtype(description: Any) -> Any:
    """The dtype of `described`."""
    return pickle.loads(description) if type(description) is bytes else description


def laid_out(array: Any) -> tuple[Any, Form]:
    """What to store of an array, its axes as they lie in memory, the fastest last; and how to find the items in it.

    Gaps are not stored. Of one whose items lie over each other (`broadcast_to`, `sliding_window_view`) the memory
    that they take is, once.
    """
    dtype, shape = described(array.dtype), array.shape
    if array.flags.c_contiguous:
        return array, (dtype, shape, None, 0)
    low = sum((n - 1) * step for n, step in zip(shape, array.strides, strict=True) if step < 0)
    high = sum((n - 1) * step for n, step in zip(shape, array.strides, strict=True) if step > 0)
    if (span := high - low + array.itemsize) < array.nbytes:
        start = array.__array_interface__["data"][0] + low
        return bytes_at(start, span, array), (dtype, shape, array.strides, -low)
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    if axes == sorted(axes):
        return array, (dtype, shape, None, 0)
    strides, step = list(array.strides), array.itemsize
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape[axis]
    return array.transpose(axes), (dtype, shape, tuple(strides), 0)


class _Span:
    owner: Any
    __array_interface__: dict[str, Any]


def bytes_at(address: int, nbytes: int, owner: Any) -> Any:
    """The `nbytes` bytes of memory at `address`, which `owner` keeps, as an array that keeps it."""
    span = _Span()
    span.owner = owner
    span.__array_interface__ = {
        "data": (address, False),
        "shape": (nbytes,),
        "typestr": "|u1",
        "version": 3,
    }
    return sys.modules["numpy"].asarray(span)


def array_over(buffer: Any, form: Form, offset: int = 0) -> Any:
    """The array, over what was stored of it: writable if that is."""
    dtype, shape, strides, first = form
    return sys.modules["numpy"].ndarray(shape, own_dtype(dtype), buffer, offset + first, strides)
