"""A file system of local files that are read as those in a network are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from mvolatile.integrations.fsspec import VolatileCache

__all__ = ["BLOCK", "SIZE", "Disk", "Untold", "opened"]

BLOCK = 70_000  # from 64 KiB on, a hit lies over the cache's own memory
SIZE = 7 * BLOCK + 123


class Disk(LocalFileSystem):  # type: ignore[misc]
    """Local files, read as stores in a network are: by ranges, through a cache. It tells a file's checksum."""

    protocol = "disk-of-the-tests"
    asked: ClassVar[list[tuple[int, int]]] = []
    _open = AbstractFileSystem._open

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().info(path, **more)
        if found["type"] == "file":
            found["md5"] = hashlib.md5(Path(found["name"]).read_bytes()).hexdigest()
        return found

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> Any:
        Disk.asked.append((start or 0, end or 0))
        return Path(path).read_bytes()[start:end]


class Untold(Disk):
    """Without a checksum."""

    protocol = "untold-disk-of-the-tests"

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        return {key: value for key, value in super().info(path, **more).items() if key != "md5"}


def opened(path: Path, disk: type[Disk] = Disk, **options: Any) -> Any:
    return disk().open(
        str(path), "rb", block_size=BLOCK, cache_type=VolatileCache.name, cache_options=options
    )
