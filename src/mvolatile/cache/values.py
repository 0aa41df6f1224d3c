"""Values as bytes: how each kind is laid out in pages, and made whole again.

A value becomes a kind (three bits of its locator) and a list of parts. `BYTES` and `STR` are one part, the data
itself, and so is a pickle that has no bulk. The others are framed (`frames.py`). Whether a hit reads a buffer where it
lies or gets a copy is decided when it is stored, by `copy` and by whether it was writable then.

A value is never made from memory that could vanish meanwhile: `decode` gets bytes that were copied out and
validated, or a buffer that holds a pin as long as it lives.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from .frames import framed, parts_of
from .layout import array_over, laid_out
from .memoryviews import describe, restore
from .pickling import pickled

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Part: TypeAlias = Buffer

__all__ = [
    "ARRAY",
    "BYTES",
    "EXPIRES",
    "EXPIRY",
    "MADE",
    "PROTO",
    "STR",
    "Codec",
    "Encoded",
    "array_maker",
    "decode",
    "encode",
    "one_after_another",
    "write_parts",
]

BYTES, STR, BYTEARRAY, VIEW, ARRAY, PICKLE, CODED, MADE = range(8)
"""`MADE`: the region answers the value itself, not its bytes."""
EXPIRES = 8
"""Added to the kind of a value with a time to live, whose bytes end with when that is over."""
EXPIRY = struct.Struct("<d")

COPIED_BY_NUMPY = 64 << 10

PROTO = b"\x80"
"""The first byte of a pickle."""


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


def encode(value: Any, codec: Codec | None = None, copy: bool | None = None) -> Encoded:
    """Lay `value` out; `copy` as in `VolatileCache`. `TypeError` says which type cannot be stored, and why."""
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
        own = copy or (copy is None and not value.readonly)
        return _framed(VIEW, pickle.dumps((describe(value, whole), value.readonly)), [whole], [own])
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and not copy and not value.dtype.hasobject:
        laid, form = laid_out(value)
        return _framed(ARRAY, _form_dumped(form), [laid])
    return _pickled(value, copy)


def _one(kind: int, data: Any) -> Encoded:
    return Encoded(kind, [data], len(data))


def _pickled(value: Any, copy: bool | None) -> Encoded:
    meta, buffers = pickled(value, copy)
    if not buffers:
        return _one(PICKLE, meta)
    own = () if copy is False else [not buffer.readonly for buffer in buffers]
    return _framed(PICKLE, meta, buffers, own)


def _framed(kind: int, meta: bytes, bulk: Sequence[Any], own: Sequence[bool] = ()) -> Encoded:
    return Encoded(kind, *framed(meta, bulk, own))


def array_maker(encoded: Encoded) -> Callable[[Any], Any]:
    """Makes an encoded `ARRAY` of a hold on its bytes, without reading what kind of array it is: that is half of what
    a hit costs beside the kernel's part. A hold for reading gives a read-only array.
    """
    make, form = sys.modules["numpy"].ndarray, _meta(encoded.parts[1])
    dtype, shape, strides, first = form
    start = encoded.nbytes - encoded.parts[-1].nbytes
    if type(dtype) is bytes:  # each hit makes one of its own
        return lambda hold: array_over(hold, form, start)
    offset = start + first
    return lambda hold: make(shape, dtype, hold, offset, strides)


def one_after_another(parts: list[Any]) -> list[Any] | None:
    """The parts as buffers of bytes; None where one has gaps, and has to be gathered."""
    if len(parts) == 1 and type(parts[0]) is bytes:
        return parts
    buffers = []
    for part in parts:
        if hasattr(type(part), "__array_interface__"):  # of the part itself, it would be made
            if not part.flags.c_contiguous:
                return None
            part = part.reshape(-1).view("u1") if part.nbytes else b""
        buffers.append(part)
    return buffers


def write_parts(parts: list[Any], target: memoryview) -> None:
    """Copy the parts one after another into `target`, which has room for them."""
    at = 0
    for part in parts:
        if hasattr(type(part), "__array_interface__"):
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


def _parts(data: Any) -> tuple[memoryview, list[memoryview]]:
    """The meta and the bulk: read-only where it lies, or writable copies."""
    meta, bulk = parts_of(memoryview(data).toreadonly())
    return meta, [_copied(part) if own else part for part, own in bulk]


def _copied(part: memoryview) -> memoryview:
    """In private memory, and writable. NumPy copies without the interpreter's lock, and takes huge pages."""
    numpy = sys.modules.get("numpy")
    if numpy is None or part.nbytes < COPIED_BY_NUMPY:
        return memoryview(bytearray(part))
    own = numpy.empty(part.nbytes, "u1")
    own[:] = numpy.frombuffer(part, "u1")
    return memoryview(own)


_meta = lru_cache(256)(pickle.loads)
"""Few shapes and types are many arrays. All hits share what it answers: nothing in it can be changed."""
_form_dumped = lru_cache(256)(partial(pickle.dumps, protocol=5))
"""To pickle a dtype takes several calls of Python."""


def _array(data: Any) -> Any:
    meta, (bulk,) = _parts(data)
    return array_over(bulk, _meta(bytes(meta)))


def _view(data: Any) -> memoryview:
    meta, (bulk,) = _parts(data)
    form, readonly = _meta(bytes(meta))
    return restore(form, bulk.toreadonly() if readonly else bulk)


def _unpickled(data: Any) -> Any:
    if memoryview(data)[:1] == PROTO:
        return pickle.loads(data)
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
