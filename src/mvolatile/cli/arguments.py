"""What commands are given: sizes, processes, names of caches."""

from __future__ import annotations

import argparse

from ..residence import Share, size_or_share
from ..shared.place import checked_name

__all__ = ["cache_name", "limit", "process_id", "size"]


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


def cache_name(text: str) -> str:
    """Of a shared cache."""
    try:
        return checked_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def process_id(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"a process id is 1 or more, not {text}")
    return number


process_id.__name__ = "process id"  # argparse names the type of what is no number
