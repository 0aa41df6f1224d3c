"""Frames: a *meta* (a pickle of what is not bulk), then the bulk buffers, aligned so that an array made over one is.

Before them stand a count and the sizes. The count is doubled, and odd, so that no frame begins as a pickle does. What a
hit may do with a buffer is decided when it is stored: it is read where it lies, or copied first (its *own*).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["framed", "parts_of"]

ALIGNMENT, SMALL = 64, 512
"""Buffers smaller than `SMALL` bytes are aligned to 16. They stand beside the pickle as well: within it they would come
back writable, and from where on a value is read-only would be for nobody to see.
"""

OWN = 1 << 63
"""Added to the size of a buffer that a hit gets a writable copy of."""


def _alignment(nbytes: int) -> int:
    return ALIGNMENT if nbytes >= SMALL else 16


def framed(meta: bytes, bulk: Sequence[Any], own: Sequence[bool] = ()) -> tuple[list[Any], int]:
    """The parts, one after another, and what all of them take."""
    sizes = [part.nbytes if hasattr(part, "nbytes") else len(part) for part in bulk]
    told = sizes
    if True in own:
        told = [size | OWN if its else size for size, its in zip(sizes, own, strict=True)]
    head = struct.pack(f"<{2 + len(told)}Q", 2 * len(told) + 3, len(meta), *told)
    parts: list[Any] = [head, meta]
    at = len(head) + len(meta)
    for part, size in zip(bulk, sizes, strict=True):
        padding = -at % _alignment(size)
        parts += bytes(padding), part
        at += padding + size
    return parts, at


def parts_of(frame: memoryview) -> tuple[memoryview, list[tuple[memoryview, bool]]]:
    """The meta and the bulk where they lie, and which of them are to be a hit's own."""
    count = struct.unpack_from("<Q", frame)[0] // 2
    sizes = struct.unpack_from(f"<{count}Q", frame, 8)
    at = 8 * (1 + count)
    meta = frame[at : at + sizes[0]]
    at += sizes[0]
    bulk = []
    for size in sizes[1:]:
        nbytes = size & ~OWN
        at += -at % _alignment(nbytes)
        bulk.append((frame[at : at + nbytes], size != nbytes))
        at += nbytes
    return meta, bulk
