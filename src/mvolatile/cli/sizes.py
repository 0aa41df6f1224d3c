"""Sizes as arguments of commands."""

from __future__ import annotations

import argparse

from ..residence import Share, size_or_share

__all__ = ["limit", "size"]


def limit(text: str) -> str:
    """As it is, for what reads it anew at each moment: bytes, or a share of the container's limit, ``80%``."""
    _checked(text)
    return text


def size(text: str) -> int:
    """Bytes: ``1000000``, ``256MiB``, ``2G``."""
    given = _checked(text)
    if isinstance(given, Share):
        raise argparse.ArgumentTypeError(f"SIZE must be a number of bytes, not a share: {text!r}")
    return given


def _checked(text: str) -> int | Share:
    try:
        return size_or_share(text, "SIZE")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
