"""What is behind a shared cache: files that several processes have, and until what is due there is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mvolatile import SharedCache

from .keepers import until

__all__ = ["Files", "changes", "lose", "settled", "written"]


def written(*caches: SharedCache[Any, Any]) -> None:
    """Until nothing is due of any client."""
    until(lambda: not any(cache.cache_info().behind_waiting for cache in caches))


def settled(cache: SharedCache[Any, Any]) -> None:
    """Until the keeper knows of nothing that is due."""
    until(lambda: not cache.keeper_info()["due"])


def lose(cache: SharedCache[Any, Any]) -> None:
    """All that is in memory."""
    cache.resize(1)
    cache.resize(None)
    assert len(cache) == 0


class Files(dict[str, bytes]):
    """Files of a folder: what several processes may have behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: bytes) -> None:
        (self.folder / key).write_bytes(value)

    def __delitem__(self, key: str) -> None:
        try:
            (self.folder / key).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(os.listdir(self.folder))

    def __len__(self) -> int:
        return len(os.listdir(self.folder))


def changes(cache: SharedCache[Any, Any]) -> dict[str, Callable[[], Any]]:
    return {
        "delete": lambda: cache.delete_many(["k"]),
        "set": lambda: cache.set("k", b"new"),
        "clear": cache.clear,
    }
