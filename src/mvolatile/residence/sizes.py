"""Sizes and shares as people write them: ``268435456``, ``"256MiB"``, ``"80%"``."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass

from ..kernel.cgroup import memory_cgroup, memory_state
from ..kernel.files import read_table

__all__ = ["Share", "size_or_share"]

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%|(?:([kmgt])(i?)b?|b)?)", re.IGNORECASE)
_POWERS = " kmgt"


@dataclass(frozen=True, slots=True)
class Share:
    """Of the memory that this process's container may have."""

    part: float

    def nbytes(self) -> int | None:
        """Of the container's limit as it is now, or of the machine's memory where there is none; None if neither can be
        read.
        """
        cgroup = memory_cgroup()
        limit = None if cgroup is None else memory_state(cgroup).limit
        ram = read_table("/proc/meminfo").get("MemTotal")
        whole = min((size for size in (limit, ram) if size is not None), default=None)
        return None if whole is None else int(whole * self.part)


def size_or_share(given: int | str, what: str) -> int | Share:
    """Bytes, as many as there can be addresses at most; or a share. ``K``, ``M``, ``G`` and ``T`` are powers of 1024,
    as ``KiB`` is; ``KB`` is 1000 bytes.

    `TypeError` or `ValueError` naming `what`.
    """
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise TypeError(f"{what} must be a number of bytes or a text like '256MiB' or '80%', not {given!r}")
    if isinstance(given, int):
        if given < 0:
            raise ValueError(f"{what} must not be negative, not {given}")
        return min(given, sys.maxsize)
    match = _SIZE.fullmatch(given.strip())
    if match is None:
        raise ValueError(f"{what} must be a size like '256MiB' or a share like '80%', not {given!r}")
    number = float(match[1])
    if match[2] == "%":
        if not 0 <= number <= 100:
            raise ValueError(f"{what} must be a share of 0 to 100 %, not {given!r}")
        return Share(number / 100)
    decimal = match[3] is not None and not match[4] and match[2].lower().endswith("b")
    unit: int = (1000 if decimal else 1024) ** _POWERS.index((match[3] or " ").lower())
    return math.floor(min(number * unit, sys.maxsize))
