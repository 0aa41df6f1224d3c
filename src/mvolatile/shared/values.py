"""The seam to the private cache: how a value becomes bytes, and a value again over memory that is the reader's own.

What clients share with the private cache comes through here, but for what those load who have something behind
(`second.py`); and what a keeper does through `eviction.py`. Nothing else of the private cache is used, nor loaded.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

from .._core import SharedFile
from ..cache.calls import Call, Calls
from ..cache.carry import packed, unpacked
from ..cache.checks import (
    Mode,
    TimeToLive,
    Unstorable,
    checked_behind,
    checked_bound,
    checked_condition,
    checked_grace,
    checked_tag,
    checked_ttl,
    checked_unstorable,
    seconds_to_live,
)
from ..cache.circles import making
from ..cache.cost import UNKNOWN, Costs, checked_cost, class_of
from ..cache.fork import follow
from ..cache.frames import parts_of
from ..cache.identity import identity
from ..cache.keys import KEYWORDS, checked_key, given_key, make_key, names_its_object
from ..cache.layout import array_over
from ..cache.loops import can_wait, in_thread, running
from ..cache.memoryviews import restore
from ..cache.notices import Notices
from ..cache.rebuild import RebuildPressure, Rebuilds
from ..cache.refreshing import Refreshing
from ..cache.registry import Known
from ..cache.singleflight import SingleFlight, Terms
from ..cache.statistics import CacheInfo
from ..cache.stopped import raise_if_stopped
from ..cache.tags import NO_TAGS
from ..cache.values import (
    ARRAY,
    BYTEARRAY,
    BYTES,
    CODED,
    PICKLE,
    PROTO,
    STR,
    VIEW,
    Codec,
    Encoded,
    encode,
    one_after_another,
    write_parts,
)
from ..cache.views import Items, Values

__all__ = [
    "BYTEARRAY",
    "KEYWORDS",
    "NO_TAGS",
    "UNKNOWN",
    "CacheInfo",
    "Call",
    "Calls",
    "Codec",
    "Costs",
    "Encoded",
    "Items",
    "Known",
    "Mode",
    "Notices",
    "RebuildPressure",
    "Rebuilds",
    "Refreshing",
    "SingleFlight",
    "Terms",
    "TimeToLive",
    "Unstorable",
    "Values",
    "allocate",
    "can_wait",
    "checked_behind",
    "checked_bound",
    "checked_condition",
    "checked_cost",
    "checked_grace",
    "checked_key",
    "checked_tag",
    "checked_ttl",
    "checked_unstorable",
    "class_of",
    "decode",
    "encode",
    "follow",
    "given_key",
    "identity",
    "in_thread",
    "joined",
    "make_key",
    "making",
    "names_its_object",
    "packed",
    "post",
    "raise_if_stopped",
    "running",
    "seconds_to_live",
    "unpacked",
    "write_parts",
]

LARGE = 64 << 10
"""Bytes from which on NumPy's memory is taken, which comes in huge pages, and is kept for the next."""


def allocate(nbytes: int) -> Any:
    """Memory that a value is read into, and then made of. Not zeroed."""
    numpy = sys.modules.get("numpy")
    if numpy is None or nbytes < LARGE:
        return bytearray(nbytes)
    return numpy.empty(nbytes, "u1")


def post(encoded: Encoded, mailbox: SharedFile) -> None:
    """Copy the value to where another process takes it."""
    buffers, at = one_after_another(encoded.parts), 0
    if buffers is None:
        with memoryview(mailbox) as target:
            write_parts(encoded.parts, target)
        return
    for buffer in buffers:
        mailbox.write(at, buffer)
        at += len(buffer)


def joined(encoded: Encoded) -> bytes:
    """The value's bytes in one piece."""
    if len(encoded.parts) == 1 and type(encoded.parts[0]) is bytes:
        return encoded.parts[0]
    whole = bytearray(encoded.nbytes)
    write_parts(encoded.parts, memoryview(whole))
    return bytes(whole)


def decode(kind: int, data: Any, codec: Codec | None) -> Any:
    """The value, of `data`, which it may keep and write to: nobody else has it."""
    if (kind == CODED) != (codec is not None):
        raise TypeError("stored with a codec, and read without one, or the other way round")
    if codec is not None:
        return codec.loads(bytes(data))
    if kind == BYTES:
        return bytes(data)
    if kind == STR:
        return data if type(data) is str else str(data, "utf-8", "surrogatepass")
    if kind == BYTEARRAY:
        return bytearray(data)
    if kind == PICKLE and memoryview(data)[:1] == PROTO:
        return pickle.loads(data)
    meta, bulk = _parts(memoryview(data).cast("B"), kind == ARRAY)
    if kind == PICKLE:
        return pickle.loads(meta, buffers=bulk)
    if kind == ARRAY:
        return array_over(bulk[0], pickle.loads(meta))
    if kind == VIEW:
        form, readonly = pickle.loads(meta)
        return restore(form, bulk[0].toreadonly() if readonly else bulk[0])
    raise ValueError(f"a value of kind {kind}, which this version does not know")


def _parts(view: memoryview, writable: bool) -> tuple[memoryview, list[memoryview]]:
    """The meta and the bulk, where they lie: read-only where they were when they were stored."""
    meta, bulk = parts_of(view)
    return meta, [part if own or writable else part.toreadonly() for part, own in bulk]
