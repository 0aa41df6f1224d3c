"""Keys as bytes: equal keys are the same bytes in every process, and different keys are not.

A dictionary has one entry for ``1``, ``1.0`` and ``True``; so has a shared cache, and what is behind one. What is
compared by identity, or by code that only its class knows, cannot be a key here.
"""

from __future__ import annotations

import struct
from numbers import Integral
from typing import Any

from .keys import KEYWORDS

__all__ = ["KEYWORDS", "LONGEST", "TypeName", "decode", "encode"]

LONGEST = 0xFFFF
"""Bytes of an encoded key."""

_LONG = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_SIZE = struct.Struct("<I")
_NAN = struct.pack("<d", float("nan"))


class TypeName(str):
    """A class within a key, by its name: where a cache's keys are listed, the class may not be there."""

    __slots__ = ()


def encode(key: Any) -> bytes:
    """The bytes of a key; `TypeError` says which types can be one, `ValueError` that it is too long."""
    encoded = _encode(key)
    if len(encoded) > LONGEST:
        raise ValueError(f"a key of {len(encoded)} bytes: a shared cache's have at most {LONGEST}")
    return encoded


def _encode(key: Any) -> bytes:
    if isinstance(key, str):
        return (b"T" if isinstance(key, TypeName) else b"s") + str.encode(key, "utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + bytes(key)
    if isinstance(key, int):
        return _integer(int(key))
    if isinstance(key, float):
        return _float(float(key))
    if key is None:
        return b"n"
    if isinstance(key, tuple):
        return b"t" + b"".join(map(_sized, key))
    if isinstance(key, frozenset):
        return b"z" + b"".join(sorted(map(_sized, key)))
    if isinstance(key, complex):
        # Negative zeros are equal to zeros, and are added away.
        return (
            b"c" + _DOUBLE.pack(key.real + 0.0) + _DOUBLE.pack(key.imag + 0.0)
            if key.imag
            else _float(key.real)
        )
    if key is KEYWORDS:
        return b"k"
    if isinstance(key, type) and "<locals>" not in key.__qualname__:  # there are many of that name
        return b"T" + f"{key.__module__}:{key.__qualname__}".encode("utf-8", "surrogatepass")
    if isinstance(key, Integral):
        return _integer(int(key))
    raise TypeError(
        f"a key of type {type(key).__qualname__}: a shared cache's are None, numbers, str, bytes, and tuples and "
        "frozensets of these"
    )


def _integer(number: int) -> bytes:
    if -(1 << 63) <= number < 1 << 63:
        return b"i" + _LONG.pack(number)
    return b"I" + number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _float(number: float) -> bytes:
    if number.is_integer():
        return _integer(int(number))
    return b"f" + (_NAN if number != number else _DOUBLE.pack(number))


def _sized(item: Any) -> bytes:
    encoded = _encode(item)
    return _SIZE.pack(len(encoded)) + encoded


def decode(encoded: bytes) -> Any:
    """The key again, or one equal to it."""
    tag, data = encoded[:1], encoded[1:]
    if tag == b"s":
        return data.decode("utf-8", "surrogatepass")
    if tag == b"b":
        return data
    if tag == b"i":
        return _LONG.unpack(data)[0]
    if tag == b"I":
        return int.from_bytes(data, "little", signed=True)
    if tag == b"f":
        return _DOUBLE.unpack(data)[0]
    if tag == b"c":
        return complex(_DOUBLE.unpack_from(data)[0], _DOUBLE.unpack_from(data, 8)[0])
    if tag == b"n":
        return None
    if tag == b"k":
        return KEYWORDS
    if tag == b"T":
        return TypeName(data.decode("utf-8", "surrogatepass"))
    if tag in (b"t", b"z"):
        return (tuple if tag == b"t" else frozenset)(decode(item) for item in _items(data))
    raise ValueError(f"no key begins with {tag!r}")


def _items(data: bytes) -> list[bytes]:
    items, at = [], 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        items.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return items
