"""`VolatileArray`: an ndarray's bytes in volatile memory. Needs NumPy (``pip install mvolatile[numpy]``)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import Extents
from .memory import VolatileMemory

__all__ = ["VolatileArray", "array", "empty", "zeros"]

Array = NDArray[Any]
OnPurgeArray = Literal["raise", "zero"] | Callable[[Array, Extents], object]


class VolatileArray:
    """An array of fixed `shape` and `dtype` over a `VolatileMemory` of its own (`memory`).

    Made by `array`, `empty` and `zeros`. It cannot be computed with directly: hold it with `pin`, look at it with
    `peek`, or copy it with `read`; all give ordinary ndarrays. ``np.asarray(va)`` pins it as long as the
    result, or any view of it, lives. The options are those of `VolatileMemory`.

    Threads and fork: as `VolatileMemory`.

    >>> frame = array([[1.0, 2.0], [3.0, 4.0]], name="frame")
    >>> float(frame.read().sum())
    10.0
    >>> def rebuild(values, extents):
    ...     for rows in frame.rows(extents):
    ...         values[rows] = [[1.0, 2.0], [3.0, 4.0]][rows]
    >>> frame.purge() > 0
    True
    >>> with frame.pin(on_purge=rebuild) as values:
    ...     values.tolist()
    ...     del values
    [[1.0, 2.0], [3.0, 4.0]]
    """

    __slots__ = ("_order", "dtype", "memory", "shape")

    def __init__(
        self,
        shape: SupportsIndex | Iterable[SupportsIndex],
        dtype: DTypeLike = float,
        *,
        order: Literal["C", "F"] = "C",
        name: str | None = None,
        fill: OnPurgeArray = "raise",
        huge: bool = True,
        dump: bool = True,
        inherit: bool = True,
    ) -> None:
        self.shape: tuple[int, ...]
        self.dtype: np.dtype[Any]
        self.shape, self.dtype = _form(shape, dtype)
        if self.dtype.hasobject:
            raise TypeError(
                "an array of Python objects cannot be volatile: it holds references, not the data"
            )
        self._order: Literal["C", "F"] = order
        self.memory: VolatileMemory = VolatileMemory(
            max(1, self.nbytes), name, fill=self._over_bytes(fill), huge=huge, dump=dump, inherit=inherit
        )

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def pin(
        self, *, write: bool = False, on_purge: OnPurgeArray | None = None
    ) -> AbstractContextManager[Array]:
        """As `VolatileMemory.pin`; the view is an ndarray, read-only unless ``write=True``.

        A callable `on_purge` gets ``(array, extents)``, `extents` in bytes; `rows` turns them into slices of
        the first axis. The memory stays held as long as the array lives, also after the block: `del` it inside.
        """
        return _AsArray(
            self._wrap,
            self.memory.pin(write=write, on_purge=None if on_purge is None else self._over_bytes(on_purge)),
        )

    def peek(self) -> AbstractContextManager[Array]:
        """As `VolatileMemory.peek`; the view is a read-only ndarray. `del` it inside the block.

        One that still lives when the block ends turns the peek into a pin: it costs what a pin costs, and holds the
        memory until it is gone. For code that you do not know, `pin` is the safe way: a library's worker threads may
        block every signal, and the kernel kills such a thread, and the process, for reading a lost page. While there is
        one, a peek is a pin by itself; one that the library makes inside the block is not seen.

        >>> frame = array([1.0, 5.0, 2.0])
        >>> with frame.peek() as values:
        ...     largest = float(values.max())
        ...     del values
        >>> largest
        5.0
        """
        return _AsArray(self._wrap, self.memory.peek())

    def read(self) -> Array:
        """A copy of the whole array, or `Purged` (or what `fill` says)."""
        return self._wrap(bytearray(self.memory.read()))

    def write(self, values: ArrayLike) -> None:
        """Overwrite the whole array with `values`, broadcast to its shape; nothing of it is lost then."""
        source = np.broadcast_to(np.asarray(values, self.dtype), self.shape)
        if source.nbytes:
            self.memory.write(source.tobytes(self._order))

    def rows(self, extents: Extents) -> tuple[slice, ...]:
        """Slices of the first axis that cover the lost byte ranges: what to rebuild.

        All of the axis for Fortran order.
        """
        if not extents or self._order == "F" or not self.shape:
            return (slice(0, self.shape[0] if self.shape else 1),) if extents else ()
        row = max(1, self.nbytes // max(1, self.shape[0]))
        merged: list[list[int]] = []
        for offset, length in extents:
            first, last = offset // row, min(self.shape[0], -(-(offset + length) // row))
            if merged and first <= merged[-1][1]:
                merged[-1][1] = max(last, merged[-1][1])
            else:
                merged.append([first, last])
        return tuple(slice(first, last) for first, last in merged)

    def purge(self) -> int:
        """As `VolatileMemory.purge`."""
        return self.memory.purge()

    def purged(self) -> Extents:
        """As `VolatileMemory.purged`: lost byte ranges."""
        return self.memory.purged()

    def close(self) -> None:
        """Give the memory back; `BufferError` while an array made of it lives."""
        self.memory.close()

    def __enter__(self) -> VolatileArray:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Read-only, and pinned while it or a view of it lives; a copy for another dtype or ``copy=True``.

        To write, use ``pin(write=True)``: while a writer holds the memory, peeks of other threads raise.
        """
        pinned = self._wrap(self.memory)
        if dtype is not None and np.dtype(dtype) != self.dtype:
            if copy is False:
                raise ValueError("another dtype needs a copy")
            return pinned.astype(dtype)
        return pinned.copy() if copy else pinned

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<VolatileArray shape={self.shape} dtype={self.dtype} over {self.memory!r}>"

    def _wrap(self, buffer: Any) -> Array:
        return _wrapped(buffer, self.shape, self.dtype, self._order)

    def _over_bytes(self, on_purge: OnPurgeArray) -> Any:
        if not callable(on_purge):
            return on_purge
        # With self in it, the memory's `fill` would be a cycle, and a dropped array's memory wait for the collector.
        shape, dtype, order = self.shape, self.dtype, self._order
        return lambda view, extents: on_purge(_wrapped(view, shape, dtype, order), extents)


def _form(
    shape: SupportsIndex | Iterable[SupportsIndex], dtype: DTypeLike
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of ``np.empty(shape, dtype)``, and its errors, without its memory."""
    try:
        extents: tuple[int, ...] = (operator.index(cast(SupportsIndex, shape)),)
    except TypeError:
        if not isinstance(shape, Iterable) or isinstance(shape, str | bytes):
            raise TypeError(f"a shape is an integer or a sequence of integers, not {shape!r}") from None
        extents = tuple(map(operator.index, shape))
    # A subarray's dimensions become the array's; a first one of 0 asks for no memory, and the rest is checked the same.
    form = np.empty((0, *extents), dtype)
    return form.shape[1:], form.dtype


def _wrapped(buffer: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"]) -> Array:
    # ndarray() lets go of the buffer at once and keeps no more than a reference; frombuffer() holds it.
    held = np.frombuffer(buffer, np.uint8)
    return np.ndarray(shape, dtype, held, order=order)


class _AsArray:
    """A pin or a peek, its view made an array."""

    __slots__ = ("_inner", "_wrap")

    def __init__(self, wrap: Callable[[Any], Array], inner: AbstractContextManager[memoryview]) -> None:
        self._wrap = wrap
        self._inner = inner

    def __enter__(self) -> Array:
        return self._wrap(self._inner.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._inner.__exit__(kind, error, trace)


def array(values: ArrayLike, dtype: DTypeLike | None = None, **options: Any) -> VolatileArray:
    """A volatile copy of `values`; dtype, shape and (C or Fortran) order kept. `options`: those of `VolatileArray`."""
    source = np.asarray(values, dtype)
    fortran = source.flags.f_contiguous and not source.flags.c_contiguous
    made = VolatileArray(source.shape, source.dtype, order="F" if fortran else "C", **options)
    with made.pin(write=True) as view:
        view[...] = source
        del view
    return made


def empty(
    shape: SupportsIndex | Iterable[SupportsIndex], dtype: DTypeLike = float, **options: Any
) -> VolatileArray:
    """An array of zeros, which becomes volatile when its first pin or write ends.

    `shape` and `dtype` are those of `numpy.empty`, with its errors: `TypeError` for dimensions that are not integers,
    `ValueError` for negative ones and for more bytes than can be counted.
    """
    return VolatileArray(shape, dtype, **options)


zeros = empty
