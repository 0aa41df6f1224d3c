"""Values as they lie behind: one string of bytes each, which tells its key, its kind, the end of its life, what its
making cost, and whether it is whole.

A record may come from an earlier run, another version, a disk that filled up in the middle of it, or somebody's hand.
So nothing in it is believed that is not checked, and what is not right is no record. What a codec made goes to that
codec alone, and what was stored without one to none.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from typing import Any, NamedTuple

from ..cost import UNKNOWN
from ..values import BYTES, CODED, PICKLE

__all__ = ["NO_END", "Record", "packed", "unpacked"]

VERSION = 1
MAGIC = b"mvB"
NO_END = math.inf

_HEAD = struct.Struct("<3sBBB2xIdQI")
"""Magic, version, kind, class of cost, the key's length, end of life (seconds since 1970), bytes of data, checksum
of all but itself.
"""
_SUM = struct.Struct("<I")


class Record(NamedTuple):
    """One value. `data` is its bytes as in memory; `expires` is by `time.time`."""

    key: bytes
    kind: int
    data: Any
    expires: float = NO_END
    cost: int = UNKNOWN

    @property
    def lasts(self) -> float:
        """Seconds that it has still to live."""
        return self.expires - time.time()


def packed(record: Record) -> bytes:
    """As it lies behind."""
    head = _HEAD.pack(
        MAGIC, VERSION, record.kind, record.cost, len(record.key), record.expires, len(record.data), 0
    )[: -_SUM.size]
    checksum = zlib.crc32(record.data, zlib.crc32(record.key, zlib.crc32(head)))
    return b"".join((head, _SUM.pack(checksum), record.key, record.data))


def unpacked(found: Any, key: bytes, coded: bool) -> Record | None:
    """The record of `key`, if `found` is one, and all there."""
    try:
        whole = memoryview(found).cast("B")
    except TypeError:
        return None
    if len(whole) < _HEAD.size:
        return None
    magic, version, kind, cost, key_size, expires, size, checksum = _HEAD.unpack_from(whole)
    if magic != MAGIC or version != VERSION or len(whole) != _HEAD.size + key_size + size:
        return None
    data = whole[_HEAD.size + key_size :]
    head = whole[: _HEAD.size - _SUM.size]
    if zlib.crc32(whole[_HEAD.size :], zlib.crc32(head)) != checksum:
        return None
    if whole[_HEAD.size : _HEAD.size + key_size] != key or (kind == CODED) != coded:
        return None
    if not BYTES <= kind <= PICKLE and kind != CODED:
        return None
    return None if math.isnan(expires) else Record(key, kind, data, expires, cost)
