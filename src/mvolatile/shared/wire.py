"""Messages between clients and a keeper: each one packet, a header and what belongs to it, at most 128 KiB.

Both sides check every length against what came. Neither believes an address, an offset or a process id of the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

try:
    from _blake2 import (
        blake2b,  # which is in `hashlib`, and that loads OpenSSL: half a megabyte of a keeper's memory
    )
except ImportError:
    from hashlib import blake2b

__all__ = [
    "ABSENT",
    "ALL",
    "ANY",
    "COST_SHIFT",
    "DIGEST",
    "DUE",
    "INLINE",
    "KNOWN",
    "LONGEST",
    "PROTOCOL",
    "TAG",
    "Flag",
    "NonsenseError",
    "Op",
    "Reply",
    "Request",
    "Status",
    "digest_of",
    "packed_duties",
    "tag_of",
    "unpacked_duties",
]

PROTOCOL = 3
"""Part of the socket's name: who speaks another one meets nobody."""

LONGEST = 128 << 10
INLINE = 32 << 10
"""Bytes of a value up to which it stands in the message; a larger one goes through the mailbox."""

ANY, ABSENT = (1 << 64) - 1, 0
"""In place of the version that a key must have for a change to be made."""

DIGEST = 20
"""Bytes that stand for a key, in what is said of the second tier, and there."""
ALL = bytes(DIGEST)
"""In place of a key's: all of them."""
TAG = 16
"""Bytes that stand for a tag."""
KNOWN, DUE = 0, 1
"""What is behind may be believed, or something is still to be done there; in place of a kind."""

_DUTY = struct.Struct(f"<{DIGEST}sQ")
_REQUEST = struct.Struct("<BBHIQdQQB")
_REPLY = struct.Struct("<BBHIQdQ")


class NonsenseError(Exception):
    """What came is no request of ours."""


class Op(IntEnum):
    """What is asked."""

    HELLO = 1
    TABLE = 2
    HINTS = 3
    MAILBOX = 4
    STORE = 5
    DELETE = 6
    CLEAR = 7
    TOUCH = 8
    LEASE = 9
    RELEASE = 10
    FETCH = 11
    SCAN = 12
    INFO = 13
    RESIZE = 14
    PURGE = 15
    BEGIN = 16
    """Somebody is to read behind what memory has not."""
    END = 17
    """It was read, or nothing was found; `FAILED`: what was found is of no use."""
    TURN = 18
    """A duty is to be done behind: may it be?"""
    DONE = 19
    ORPHANS = 20
    """Duties of those who are gone."""
    DELETE_TAG = 21


class Flag(IntEnum):
    """Bits of a request."""

    IN_MAILBOX = 1
    KEEP_EXPIRY = 2
    FAILED = 4
    BEHIND = 8
    """There is a second tier, and who asks brings the change there."""
    READ_BEHIND = 16
    """It was found there; `lease` is the reading's."""
    FOUND_BEHIND = 32
    """It was found there, by who has the lease."""
    LATE = 64
    """What expired less than so many seconds ago is wanted, too."""


COST_SHIFT = 24
"""The uppermost byte of a request's flags is the class of what a value took to make."""


class Status(IntEnum):
    """What is answered."""

    OK = 0
    NO = 1
    """There is no such entry, or it is not at the version that was asked for."""
    STALE = 2
    TOO_LARGE = 3
    NO_ROOM = 4
    WAIT = 5
    LOOK = 6
    OWN = 7
    NEED = 8
    LOST = 9
    """There was one, and the kernel has taken it."""


class Request(NamedTuple):
    """`version`: what the entry must have; `lease`: the caller's, or another number of the operation's; `seconds`: how
    long it is to live; of `HELLO` for how long what expired is kept, since somebody may ask for it.
    """

    op: int
    key: bytes = b""
    body: bytes = b""
    kind: int = 0
    flags: int = 0
    length: int = 0
    seconds: float = 0.0
    version: int = ANY
    lease: int = 0
    tag: bytes = b""

    def packed(self) -> bytes:
        """As it goes out."""
        key, tag, body = self.key, self.tag, self.body
        numbers = self.flags, self.length, self.seconds, self.version, self.lease
        return b"".join((_REQUEST.pack(self.op, self.kind, len(key), *numbers, len(tag)), key, tag, body))

    @classmethod
    def unpacked(cls, data: bytes) -> Request:
        """Of what came in; `ValueError` if it is none."""
        if len(data) < _REQUEST.size:
            raise ValueError("too short")
        op, kind, key_length, flags, length, seconds, version, lease, tag_length = _REQUEST.unpack_from(data)
        end = _REQUEST.size + key_length
        body = end + tag_length
        if body > len(data):
            raise ValueError("the key is longer than the message")
        if tag_length not in (0, TAG):
            raise ValueError("no tag is so long")
        key, tag = data[_REQUEST.size : end], data[end:body]
        return cls(op, key, data[body:], kind, flags, length, seconds, version, lease, tag)


class Reply(NamedTuple):
    """`version`: of the entry, or another number of the operation's; `cost`: its class."""

    status: int
    body: bytes = b""
    kind: int = 0
    length: int = 0
    expires: float = 0.0
    version: int = 0
    cost: int = 0

    def packed(self) -> bytes:
        """As it goes out."""
        head = _REPLY.pack(self.status, self.kind, self.cost, 0, self.length, self.expires, self.version)
        return head + self.body if self.body else head

    @classmethod
    def unpacked(cls, data: bytes) -> Reply:
        """Of what came in; `ValueError` if it is none."""
        if len(data) < _REPLY.size:
            raise ValueError("too short")
        status, kind, cost, _, length, expires, version = _REPLY.unpack_from(data)
        return cls(status, data[_REPLY.size :], kind, length, expires, version, cost & 0xFF)


def digest_of(key: bytes) -> bytes:
    """What stands for an encoded key."""
    return blake2b(key, digest_size=DIGEST).digest()


def tag_of(encoded: bytes) -> bytes:
    """What stands for an encoded tag."""
    return blake2b(encoded, digest_size=TAG).digest()


def packed_duties(duties: Iterable[tuple[bytes, int]]) -> bytes:
    """Digests, and numbers of what is due."""
    return b"".join(_DUTY.pack(*duty) for duty in duties)


def unpacked_duties(body: bytes) -> list[tuple[bytes, int]]:
    """Of what came in."""
    return list(_DUTY.iter_unpack(body[: len(body) // _DUTY.size * _DUTY.size]))
