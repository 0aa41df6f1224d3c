"""Memoryviews as a format, a shape and bytes, and made whole again.

`memoryview.cast` makes views of the native formats of one character alone. Of what ctypes, NumPy and others export
besides (byte orders, structures, half, long and complex numbers) only NumPy can make a view, and not of all.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

from .layout import described, own_dtype

__all__ = ["Form", "describe", "restore"]

Form: TypeAlias = tuple[Any, str, tuple[int, ...]]
"""A format, or a dtype as `described`; the byte order that pickling takes from a dtype if it is this machine's; the
shape.
"""

NATIVE = frozenset("cbB?hHiIlLqQnNfd")


def describe(view: Any, whole: Any) -> Form:
    """What `restore` needs beside its bytes, `whole`; `TypeError` where it could not."""
    form, shape = view.format, view.shape
    if form.removeprefix("@") in NATIVE and (len(shape) == 1 or 0 not in shape):
        return form, "", shape
    for dtype, order in _candidates(view):
        if not dtype.hasobject and _format(dtype, order, shape, whole) == form:
            return described(dtype), order, shape
    raise TypeError(
        f"a memoryview of format {form!r} and shape {shape} cannot be cached: "
        "neither memoryview.cast nor NumPy makes a view like it"
    )


def _candidates(view: Any) -> Iterator[tuple[Any, str]]:
    try:
        import numpy
    except ImportError:
        return
    if isinstance(view.obj, numpy.ndarray):  # it does not read all the formats that it writes
        yield pickle.loads(pickle.dumps(view.obj.dtype)), ""
    try:
        dtype = numpy.asarray(view).dtype
    except (ValueError, RuntimeError, RuntimeWarning):  # a warning: it guesses at ctypes' padding
        return
    for order in ("", "<", ">"):
        yield pickle.loads(pickle.dumps(dtype)), order


def _format(dtype: Any, order: str, shape: tuple[int, ...], data: Any) -> str | None:
    try:
        return _restored(dtype, order, shape, data).format
    except (TypeError, ValueError):  # another size, or one that NumPy does not export
        return None


def restore(form: Form, data: memoryview) -> memoryview:
    """A view of `data`, writable if that is."""
    kind, order, shape = form
    if not isinstance(kind, str):
        return _restored(own_dtype(kind), order, shape, data)
    if not data.nbytes:
        item = bytearray(struct.calcsize(kind))
        return _cast(memoryview(item).toreadonly() if data.readonly else memoryview(item), kind, (1,))[:0]
    return _cast(data, kind, shape) if kind != "B" or len(shape) != 1 else data


def _cast(data: Any, kind: str, shape: tuple[int, ...]) -> memoryview:
    view: memoryview = data.cast(kind, shape)
    return view


def _restored(dtype: Any, order: str, shape: tuple[int, ...], data: Any) -> memoryview:
    import numpy

    array: Any = numpy.ndarray(shape, dtype.newbyteorder(order) if order else dtype, data)
    return memoryview(array)
