"""Pickles whose bulk stands beside them, and libraries' types that are pickled otherwise than they pickle themselves.

A library's own way is changed where its bulk would lie within the pickle, where it would keep more than the value needs
(a slice its parent), and where what comes back could be told from what was stored: an array that cannot be resized, or
cannot be written to.
"""

from __future__ import annotations

import copyreg
import operator
import pickle
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeAlias

from . import reducers
from .stopped import raise_if_stopped

__all__ = ["pickled"]

Reducer: TypeAlias = Callable[[Any], Any]

_its_own = operator.methodcaller("__reduce_ex__", 5)


def pickled(value: Any, copy: bool | None) -> tuple[bytes, list[memoryview]]:
    """The pickle, and the buffers beside it. `TypeError` for what does not pickle.

    `copy` as in `VolatileCache`. A buffer that is writable here is for a copy that is, unless `copy` is False.
    """
    buffers: list[memoryview] = []

    def take_out(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        buffers.append(raw)
        return False

    meta = BytesIO()
    try:
        pickler = pickle.Pickler(meta, 5, buffer_callback=take_out)
        pickler.dispatch_table = _TABLES[copy]()
        pickler.dump(value)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # objects raise what they like from __reduce__
        raise_if_stopped(error)
        raise TypeError(
            f"a value of type {type(value).__qualname__} cannot be cached: it does not pickle: {error!r}"
        ) from error
    return meta.getvalue(), buffers


class _Reducers(dict[type, Reducer]):
    """How to reduce each type that is met. A program's own way (`copyreg`) goes first."""

    __slots__ = ()
    private: bool | None

    def __missing__(self, kind: type) -> Reducer:
        reducer = copyreg.dispatch_table.get(kind) or self._of_library(kind)
        if reducer is None:
            if issubclass(kind, type):
                raise KeyError(kind)  # classes are pickled by their names
            reducer = _its_own  # kept, too: a list of a million objects asks once
        self[kind] = reducer
        return reducer

    def _of_library(self, kind: type) -> Reducer | None:
        copy = self.private
        numpy, arrow, torch = map(sys.modules.get, ("numpy", "pyarrow", "torch"))
        if kind is getattr(numpy, "ndarray", None):
            return lambda array: reducers.reduce_array(array, copy)
        if (images := sys.modules.get("PIL.Image")) is not None and _is(kind, images, "Image"):
            return reducers.reduce_image
        if arrow is not None and _is(kind, arrow, "Array"):
            return reducers.reduce_arrow
        if arrow is not None and _is(kind, arrow, "Buffer"):
            return lambda buffer: reducers.reduce_arrow_buffer(buffer, copy)
        if numpy is not None and kind is getattr(torch, "Tensor", None):
            return reducers.reduce_tensor
        return None


_TABLES = {
    copy: type("_Reducers", (_Reducers,), {"private": copy, "__slots__": ()}) for copy in (None, True, False)
}
"""Classes, since to make a table that is filled while it is used is half of what a small pickle costs."""


def _is(kind: type, module: Any, name: str) -> bool:
    """Whether it is that class of the module's or made of it. A module that is being imported has it not yet."""
    return issubclass(kind, getattr(module, name, ()))
