"""Saying, once, that nothing can be purged here."""

from __future__ import annotations

import warnings

from .. import _core
from ..errors import UnsupportedKernelWarning
from .features import features

__all__ = ["warn_if_unsupported"]

_asked = False


def warn_if_unsupported() -> None:
    """One `UnsupportedKernelWarning` per process, at the first use of volatile memory, where the kernel takes none.

    The sin of this library's peers is a quiet fallback that never gives memory back.
    """
    global _asked
    if _asked:
        return
    tier = _core.tier()  # raises for a tier that cannot be had, each time
    _asked = True
    if tier == "unsupported":
        warnings.warn(
            "volatile memory stays resident here, nothing is ever purged: " + features().reason,
            UnsupportedKernelWarning,
            stacklevel=3,
        )
