"""What workers of pools and clusters run: found by name there."""

from __future__ import annotations

import os
import sys

import mvolatile as mv
from integrations.computing.notes import note
from mvolatile.integrations.dask import shared_cache

NAME = "tasks-of-tests"


def from_shared(key: int, log: str, size: int = 1000) -> tuple[int, bytes]:
    def make() -> bytes:
        note(log)
        return key.to_bytes(4, "little") * (size // 4)

    return os.getpid(), shared_cache().get_or_set(key, make)


@mv.volatile_cache(shared=NAME)
def decorated(key: int, log: str) -> bytes:
    note(log)
    return key.to_bytes(4, "little") * 1000


def fill(key: int) -> int:
    """Bytes that the cache has, with this value."""
    cache = shared_cache()
    cache[key] = key.to_bytes(4, "little") * (1 << 18)
    return cache.cache_info().bytes


def purged() -> int:
    return shared_cache().purge()


def forget_the_library() -> None:
    """As where nothing of that name is installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mvolatile"]:
        sys.modules[name] = None  # type: ignore[assignment]
