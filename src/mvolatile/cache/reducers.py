"""How the types of NumPy, Pillow, PyArrow and PyTorch are reduced for a pickle.

None of them is imported here: there is no value of a type whose library is not there already.
"""

from __future__ import annotations

import sys
from pickle import PickleBuffer
from typing import Any

from .layout import Form, array_over, bytes_at, laid_out

__all__ = ["reduce_array", "reduce_arrow", "reduce_arrow_buffer", "reduce_image", "reduce_tensor"]

WORTH_CUTTING = 1 << 10
"""Bytes of a parent that are not the slice's: fewer are stored with it."""


def reduce_array(array: Any, copy: bool | None) -> Any:
    """A plain ndarray within a value. What comes back owns its memory, so that it can be resized, unless it is over
    the cache's: `copy` is False, or it was read-only and `copy` is not True.
    """
    if array.dtype.hasobject or not array.dtype.itemsize:
        return array.__reduce_ex__(5)
    laid, form = laid_out(array)
    items = sys.modules["numpy"].ascontiguousarray(laid).reshape(-1).view("u1")
    make = own_array if copy or (copy is None and array.flags.writeable) else array_over
    return make, (_read_only(items), form)


def own_array(buffer: Any, form: Form) -> Any:
    """Of private memory and writable; its axes lie as they lay."""
    return array_over(buffer, form).copy("K")


def _read_only(data: Any) -> PickleBuffer:
    """Not to be copied before it is given to what makes the value."""
    return PickleBuffer(memoryview(data).toreadonly())


def reduce_image(image: Any) -> Any:
    """As a PIL image pickles itself, but for its pixels, which are copied once on a hit: into PIL's own memory."""
    make, arguments, state, *rest = image.__reduce_ex__(5)
    if type(state) is list and len(state) > 4 and type(state[4]) is bytes:
        state = [*state[:4], PickleBuffer(state[4]), *state[5:]]
    return (make, arguments, state, *rest)


def reduce_arrow(array: Any) -> Any:
    """As an Arrow array pickles itself, but for its buffers, which are the parent's: a slice of five rows would be
    stored with all the others. Tables, batches and chunked arrays consist of arrays.
    """
    needed = array.nbytes
    if array.get_total_buffer_size() - needed > max(WORTH_CUTTING, needed // 8):
        array = _cut(array)
    return array.__reduce_ex__(5)


def _cut(array: Any) -> Any:
    arrow = sys.modules["pyarrow"]
    plain = {arrow.string_view(): arrow.large_string(), arrow.binary_view(): arrow.large_binary()}
    if array.type in plain:  # a concatenation of views keeps what they look at
        return array.cast(plain[array.type]).cast(array.type)
    if arrow.types.is_union(array.type):  # one of dense unions keeps all their children
        return array.take(arrow.array(range(len(array)), "int64"))
    return arrow.concat_arrays([array])


def reduce_arrow_buffer(buffer: Any, copy: bool | None) -> Any:
    """Over the cache's memory: Arrow's data do not change, so that nobody can tell. A copy is made if asked for."""
    data = PickleBuffer(bytearray(buffer)) if copy else _read_only(buffer)
    return sys.modules["pyarrow"].py_buffer, (data,)


def reduce_tensor(tensor: Any) -> Any:
    """A tensor pickles its storage, all of it, within the pickle. Here the items stand beside it, and no others.

    It is never over the cache's memory: PyTorch knows no read-only memory.
    """
    torch = sys.modules["torch"]
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    own_ways = (
        tensor._backward_hooks
        or tensor.__dict__
        or tensor.is_conj()
        or tensor.is_neg()
        or getattr(tensor, "has_names", bool)()
    )
    if not plain or own_ways or tensor.storage_offset() < 0 or not tensor.numel():
        return tensor.__reduce_ex__(5)
    flat = tensor.detach()
    shape, strides, offset = tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
    span = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if span > tensor.numel():
        flat = flat.clone(memory_format=torch.contiguous_format)
        strides, offset, span = flat.stride(), 0, flat.numel()
    items = _memory(flat.as_strided((span,), (1,), offset))
    return own_tensor, (_read_only(items), tensor.dtype, shape, strides, tensor.requires_grad)


def own_tensor(buffer: Any, dtype: Any, shape: Any, strides: Any, requires_grad: bool) -> Any:
    """Of a storage of its own."""
    numpy, torch = sys.modules["numpy"], sys.modules["torch"]
    items = torch.empty(len(buffer) // dtype.itemsize, dtype=dtype)
    _memory(items)[:] = numpy.frombuffer(buffer, "u1")
    return items.as_strided(shape, strides).requires_grad_(requires_grad)


def _memory(items: Any) -> Any:
    """The bytes of a contiguous tensor. Not by its `numpy`, after which it cannot be resized any more."""
    return bytes_at(items.data_ptr(), items.numel() * items.element_size(), items)
