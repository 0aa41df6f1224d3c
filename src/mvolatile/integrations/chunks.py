"""zarr's codec pipeline, which keeps decoded chunks of arrays whose store is a `VolatileStore`.

zarr has one pipeline class for all arrays, by its configuration, and makes one for the chunks within a shard with each
read. So this one is there for all arrays, does as the default does, and looks whose chunk it is: a chunk's own key is
in its `StorePath`; within a shard only the position is told, and whose shard that is stands in a context variable.

What is kept is never handed out: zarr copies the chosen part of a chunk into the array that it returns.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from enum import Enum
from functools import cached_property
from hashlib import sha256
from time import perf_counter
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from zarr.codecs import BytesCodec
from zarr.core.buffer import NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline, fill_value_or_default
from zarr.registry import register_pipeline

from .forms import Forms

__all__ = ["VolatilePipeline"]

Make = Callable[[], Awaitable[Any]]


class Store(Protocol):
    """As far as a pipeline knows a `VolatileStore`."""

    forms: Forms

    async def kept_decoded(self, place: str, what: tuple[Any, ...], make: Make) -> Any:
        """The array that is kept of that place, or the made one."""


class Chunk(NamedTuple):
    """Of a store; within a shard with its position, and those of the shards around it."""

    store: Store
    path: str
    within: tuple[int, ...] = ()


_shard: ContextVar[Chunk | None] = ContextVar("shard that is being read", default=None)


def _chunk(getter: Any) -> Chunk | None:
    store = getattr(getter, "store", None)
    if getattr(store, "keeps_decoded", False):
        return Chunk(cast(Store, store), getter.path)
    shard = _shard.get()
    position = getattr(getter, "chunk_coords", None)
    if store is not None or shard is None or position is None:
        return None
    return shard._replace(within=(*shard.within, *position))


def _configuration(part: Any) -> Any:
    if isinstance(part, Enum):
        return part.value
    if hasattr(part, "get_config"):  # of numcodecs, in arrays of version 2
        return part.get_config()
    if hasattr(part, "to_dict"):
        return part.to_dict()
    raise TypeError(type(part).__name__)


class VolatilePipeline(BatchedCodecPipeline):
    """zarr's default, and the decoded chunks of a `VolatileStore` are kept in its cache."""

    @cached_property
    def _codecs(self) -> str | None:
        """What tells these codecs from others; None if they have no words for themselves: an object's address may be
        another's later.
        """
        try:
            told = [[type(codec).__qualname__, codec.to_dict()] for codec in self]
            return sha256(json.dumps(told, default=_configuration).encode()).hexdigest()
        except (TypeError, ValueError):
            return None

    @cached_property
    def _worth_keeping(self) -> bool:
        plain = not self.bytes_bytes_codecs and not self.array_array_codecs
        as_they_are = plain and isinstance(self.array_bytes_codec, BytesCodec)
        return not as_they_are and self._codecs is not None

    async def read_batch(
        self, batch_info: Iterable[Any], out: NDBuffer, drop_axes: tuple[int, ...] = ()
    ) -> None:
        """As zarr's own."""
        batch = list(batch_info)
        chunks = [_chunk(getter) for getter, *_ in batch]
        if not any(chunks) or not self._worth_keeping:
            await super().read_batch(batch, out, drop_axes)
            return
        read = self._read_part if self.supports_partial_decode else self._read_whole
        arrays = await asyncio.gather(
            *(
                read(chunk, getter, spec, chosen)
                for chunk, (getter, spec, chosen, *_) in zip(chunks, batch, strict=True)
            )
        )
        for array, (_, spec, _, into, _) in zip(arrays, batch, strict=True):
            if array is None:
                out[into] = fill_value_or_default(spec)
            else:
                out[into] = array.squeeze(axis=drop_axes) if drop_axes else array

    async def _read_part(self, chunk: Chunk | None, getter: Any, spec: Any, chosen: Any) -> NDBuffer | None:
        """Of a shard: which of its chunks are asked for comes back here, one by one."""
        _shard.set(chunk)  # in a task of its own
        (array,) = await self.decode_partial_batch([(getter, chosen, spec)])
        return array

    async def _read_whole(self, chunk: Chunk | None, getter: Any, spec: Any, chosen: Any) -> NDBuffer | None:
        _shard.set(None)  # shards that are decoded as a whole keep nothing of their own

        async def decode() -> NDBuffer | None:
            encoded = await getter.get(spec.prototype)
            began = perf_counter()
            (array,) = await self.decode_batch([(encoded, spec)])
            if chunk is not None and array is not None:
                chunk.store.forms.decoded(array.as_numpy_array().nbytes, perf_counter() - began)
            return array

        if chunk is None:
            array = await decode()
            return None if array is None else array[chosen]
        made: list[NDBuffer] = []

        async def make() -> np.ndarray[Any, Any] | None:
            array = await decode()
            if array is None:
                return None
            made.append(array)
            return array.as_numpy_array()

        what = (chunk.within, spec.shape, repr(spec.dtype), repr(spec.fill_value), self._codecs)
        kept = await chunk.store.kept_decoded(chunk.path, what, make)
        if made:
            return made[0][chosen]
        return None if kept is None else spec.prototype.nd_buffer.from_numpy_array(kept)[chosen]


register_pipeline(VolatilePipeline)
