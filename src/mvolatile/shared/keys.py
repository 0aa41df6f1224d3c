"""Keys as bytes, by the private cache's hand."""

from __future__ import annotations

from ..cache.keybytes import KEYWORDS, LONGEST, TypeName, decode, encode

__all__ = ["KEYWORDS", "LONGEST", "TypeName", "decode", "encode"]
