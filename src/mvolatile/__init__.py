"""Memory that the kernel may take back.

The words: a *range* is page-aligned private anonymous memory that this library watches; *volatile* memory may
be discarded by the kernel, which is a *purge*; to *mark* is to make volatile, to *unmark* to make it stay and
learn what was purged (the *lost extents*). A *pin* is a counted hold that keeps memory non-volatile; a *peek*
reads without one and is validated at the end. The *trap* is the SIGBUS that a touch of a purged page raises.
A *tier* is the kernel mechanism that serves us.

The map, from the kernel up::

    _core/       C: platform/ talks to the kernel, protocol/ marks, holds and finds losses, python/ and cache/ are types
    kernel/      what this kernel and this container give: features, cgroup limits, pressure, smaps
    residence/   what volatile memory may add to RSS, and who looks at that
    memory.py    VolatileMemory, pin, peek          syscall.py   mvolatile() on raw addresses
    arrays.py    VolatileArray                      holdings.py  what this process holds
    cache/       VolatileCache: the kernel evicts     shared/      SharedCache: one for all processes of a host
    testing.py   losing memory on purpose           cli/         the commands
    model/       the 2014 patch as an executable specification
    explore/     an explorer of interleavings that knows nothing of memory
    errors.py    every exception
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _platform as _platform
from .errors import (
    MvolatileError,
    NoRoomError,
    NoThreadWarning,
    NotWhole,
    Overwritten,
    Purged,
    TooLargeError,
    UnsupportedError,
    UnsupportedKernelWarning,
    VolatilityWarning,
)
from .holdings import MemoryStatus, Status, status
from .kernel.features import Features, features
from .memory import VolatileMemory
from .residence import MemoryUsage, memory_usage, set_resident_limit
from .syscall import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE, mvolatile

if TYPE_CHECKING:
    from .arrays import VolatileArray, array, empty, zeros
    from .cache import VolatileCache, caches, volatile_cache
    from .shared import SharedCache

__all__ = [
    "MVOLATILE_NONVOLATILE",
    "MVOLATILE_VOLATILE",
    "Features",
    "MemoryStatus",
    "MemoryUsage",
    "MvolatileError",
    "NoRoomError",
    "NoThreadWarning",
    "NotWhole",
    "Overwritten",
    "Purged",
    "SharedCache",
    "Status",
    "TooLargeError",
    "UnsupportedError",
    "UnsupportedKernelWarning",
    "VolatileArray",
    "VolatileCache",
    "VolatileMemory",
    "VolatilityWarning",
    "array",
    "caches",
    "empty",
    "features",
    "memory_usage",
    "mvolatile",
    "set_resident_limit",
    "status",
    "volatile_cache",
    "zeros",
]

_CACHE = ("VolatileCache", "caches", "volatile_cache")
_NEED_NUMPY = ("VolatileArray", "array", "empty", "zeros")


def __getattr__(name: str) -> Any:
    if name in _NEED_NUMPY:
        from . import arrays

        return getattr(arrays, name)
    if name in _CACHE:
        from . import cache

        _publish_if_asked()
        return getattr(cache, name)
    if name == "SharedCache":
        from . import shared

        _publish_if_asked()
        return shared.SharedCache
    if name == "__version__":
        from importlib.metadata import version

        return version("mvolatile")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _publish_if_asked() -> None:
    import os

    if os.environ.get("MVOLATILE_METRICS", "0") not in ("", "0"):
        from .metrics import publish

        publish()


def __dir__() -> list[str]:
    return sorted(__all__)
