"""Values as bytes: how each kind is laid out in pages, and made whole again.

A value becomes a kind (three bits of its locator) and a list of parts. `BYTES` and `STR` are one part, the data
itself. The others are framed: a count and the sizes, the *meta* (a pickle of what is not bulk), then the bulk
buffers, each aligned so that an array made over it is.

A value is never made from memory that could vanish meanwhile: `decode` gets bytes that were copied out and
validated, or a buffer that holds a pin as long as it lives.
"""

from __future__ import annotations

import copyreg
import pickle
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from .memoryviews import describe, restore

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Part: TypeAlias = Buffer

__all__ = [
    "ARRAY",
    "BYTES",
    "EXPIRES",
    "EXPIRY",
    "MADE",
    "Codec",
    "Encoded",
    "array_maker",
    "decode",
    "encode",
    "write_parts",
]

BYTES, STR, BYTEARRAY, VIEW, ARRAY, PICKLE, CODED, MADE = range(8)
"""`MADE`: the shelf answers the value itself, not its bytes."""
EXPIRES = 8
"""Added to the kind of a value with a time to live, whose bytes end with when that is over."""
EXPIRY = struct.Struct("<d")

ALIGNMENT, SMALL = 64, 512
"""Buffers smaller than `SMALL` bytes are aligned to 16. They stand beside the pickle as well: within it they would come
back writable, and from where on a value is read-only would be for nobody to see.
"""


class Codec(Protocol):
    """Turns values into bytes and back, as the modules `pickle`, `marshal` and `json` do."""

    def dumps(self, value: Any, /) -> Part:
        """The value as a bytes-like object (or a str, which is stored as UTF-8)."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """The value again. `data` is a copy, whatever its size: much that decodes wants bytes and nothing else."""


class Encoded(NamedTuple):
    """A value ready to be stored: `nbytes` is what the `parts`, written by `write_parts`, take."""

    kind: int
    parts: list[Any]
    nbytes: int


def encode(value: Any, codec: Codec | None = None) -> Encoded:
    """Lay `value` out. `TypeError` says which type cannot be stored, and why."""
    if codec is not None:
        data = codec.dumps(value)
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        return _one(CODED, memoryview(data).cast("B"))
    kind = type(value)
    if kind is bytes:
        return _one(BYTES, value)
    if kind is str:
        return _one(STR, value.encode("utf-8", "surrogatepass"))
    if kind is bytearray:
        return _one(BYTEARRAY, value)
    if kind is memoryview:
        whole = value.cast("B") if value.c_contiguous and value.nbytes else value.tobytes()
        return _framed(VIEW, pickle.dumps(describe(value, whole)), [whole])
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and not value.dtype.hasobject:
        laid, strides = _in_order(value)
        return _framed(ARRAY, pickle.dumps((value.dtype, value.shape, strides), 5), [laid])
    return _pickled(value)


def _in_order(array: Any) -> tuple[Any, tuple[int, ...] | None]:
    """The array with its axes as they lie in memory, the fastest last, and its strides once it lies there without gaps
    (None for C's order).
    """
    if array.flags.c_contiguous or 0 in array.strides:  # 0: one item that stands for many
        return array, None
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    if axes == sorted(axes):
        return array, None
    strides, step = list(array.strides), array.itemsize
    for axis in reversed(axes):
        strides[axis] = step
        step *= array.shape[axis]
    return array.transpose(axes), tuple(strides)


def _one(kind: int, data: Any) -> Encoded:
    return Encoded(kind, [data], len(data))


def _pickled(value: Any) -> Encoded:
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
        pickler.dispatch_table = _reducers(value)
        pickler.dump(value)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # objects raise what they like from __reduce__
        raise TypeError(
            f"a value of type {type(value).__qualname__} cannot be cached: it does not pickle ({error})"
        ) from error
    return _framed(PICKLE, meta.getvalue(), buffers)


def _reducers(value: Any) -> dict[type, Callable[[Any], Any]]:
    """How to pickle what would else have its bulk within the pickle."""
    table: dict[type, Callable[[Any], Any]] = {}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        table[numpy.ndarray] = _reduce_array
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is not None:
        table[image] = _reduce_image
        if isinstance(value, image):  # a file's
            table[type(value)] = _reduce_image
    return table | copyreg.dispatch_table  # a program's own way goes first


def _reduce_array(array: Any) -> Any:
    """One with gaps is copied: NumPy pickles it as bytes, of which it makes a writable one."""
    flags = array.flags
    if not flags.c_contiguous and not flags.f_contiguous and not array.dtype.hasobject:
        array = array.copy()
    return array.__reduce_ex__(5)


def _reduce_image(image: Any) -> Any:
    """As a PIL image pickles itself, but for its pixels, which are copied once on a hit: into PIL's own memory."""
    make, arguments, state, *rest = image.__reduce_ex__(5)
    if type(state) is list and len(state) > 4 and type(state[4]) is bytes:
        state = [*state[:4], pickle.PickleBuffer(state[4]), *state[5:]]
    return (make, arguments, state, *rest)


def _alignment(nbytes: int) -> int:
    return ALIGNMENT if nbytes >= SMALL else 16


def _framed(kind: int, meta: bytes, bulk: list[Any]) -> Encoded:
    sizes = [len(meta), *(part.nbytes if hasattr(part, "nbytes") else len(part) for part in bulk)]
    head = struct.pack(f"<{1 + len(sizes)}Q", len(sizes), *sizes)
    parts: list[Any] = [head, meta]
    at = len(head) + len(meta)
    for part, size in zip(bulk, sizes[1:], strict=True):
        padding = -at % _alignment(size)
        parts += [bytes(padding), part]
        at += padding + size
    return Encoded(kind, parts, at)


def array_maker(encoded: Encoded) -> Callable[[Any], Any]:
    """Makes an encoded `ARRAY` of a hold on its bytes, without reading what kind of array it is: that is half of what
    a hit costs beside the kernel's part. A hold for reading gives a read-only array.
    """
    make, offset = sys.modules["numpy"].ndarray, encoded.nbytes - encoded.parts[-1].nbytes
    dtype, shape, strides = _meta(encoded.parts[1])
    return lambda hold: make(shape, dtype, hold, offset, strides)


def write_parts(parts: list[Any], target: memoryview) -> None:
    """Copy the parts one after another into `target`, which has room for them."""
    at = 0
    for part in parts:
        if hasattr(part, "__array_interface__"):
            at = _copy_array(part, target, at)
        else:
            end = at + len(part)
            target[at:end] = part
            at = end


def _copy_array(array: Any, target: memoryview, at: int) -> int:
    """Whatever its strides, in one copy, and without the interpreter's lock for plain types."""
    numpy = sys.modules["numpy"]
    end = at + array.nbytes
    if array.nbytes:
        numpy.ndarray(array.shape, array.dtype, target[at:end])[...] = array
    return int(end)


def decode(kind: int, data: Any, codec: Codec | None = None) -> Any:
    """The value laid out in `data`: bytes, or a buffer that keeps its memory pinned."""
    return _decoders[kind](data) if kind != CODED else _loaded(data, codec)


def _loaded(data: Any, codec: Codec | None) -> Any:
    assert codec is not None
    return codec.loads(data if isinstance(data, bytes) else memoryview(data).tobytes())


def _text(data: Any) -> str:
    return str(data, "utf-8", "surrogatepass")


def _parts(data: Any) -> tuple[bytes, list[memoryview]]:
    view = memoryview(data).toreadonly()
    (count,) = struct.unpack_from("<Q", view)
    sizes = struct.unpack_from(f"<{count}Q", view, 8)
    at = 8 * (1 + count)
    meta = bytes(view[at : at + sizes[0]])
    at += sizes[0]
    bulk = []
    for size in sizes[1:]:
        at += -at % _alignment(size)
        bulk.append(view[at : at + size])
        at += size
    return meta, bulk


_meta = lru_cache(256)(pickle.loads)
"""Few shapes and types are many arrays."""


def _array(data: Any) -> Any:
    import numpy

    meta, (bulk,) = _parts(data)
    dtype, shape, strides = _meta(meta)
    array = numpy.ndarray(shape, dtype, bulk, strides=strides)
    array.flags.writeable = False
    return array


def _view(data: Any) -> memoryview:
    meta, (bulk,) = _parts(data)
    return restore(_meta(meta), bulk)


def _unpickled(data: Any) -> Any:
    meta, bulk = _parts(data)
    return pickle.loads(meta, buffers=bulk)


_decoders: dict[int, Callable[[Any], Any]] = {
    BYTES: bytes,
    STR: _text,
    BYTEARRAY: bytearray,
    VIEW: _view,
    ARRAY: _array,
    PICKLE: _unpickled,
    MADE: lambda value: value,
}
