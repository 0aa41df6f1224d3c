"""Codecs to hand to a cache: what is stored may take less room than what was given."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["Compressed"]


def quickly(data: Any) -> bytes:
    """By zlib at its fastest level. A function of the module, which pickles."""
    return zlib.compress(data, 1)


class Compressed:
    """Pickles values and compresses the pickle: fewer bytes, slower hits, no zero-copy.

    `compress` and `decompress` turn bytes into bytes; the default is zlib at its fastest level.
    """

    __slots__ = ("_compress", "_decompress")

    def __init__(
        self,
        compress: Callable[[Any], bytes] = quickly,
        decompress: Callable[[Any], bytes] = zlib.decompress,
    ) -> None:
        self._compress = compress
        self._decompress = decompress

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._compress, self._decompress)

    def dumps(self, value: Any, /) -> bytes:
        """The compressed pickle."""
        return self._compress(pickle.dumps(value, 5))

    def loads(self, data: Any, /) -> Any:
        """The value again."""
        return pickle.loads(self._decompress(data))
