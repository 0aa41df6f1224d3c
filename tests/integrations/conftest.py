"""What the tests of integrations share: caches closed, files, stores of arrays."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mvolatile as mv
from support.leaks import join_threads


@pytest.fixture
def closing(runtime: Path, _leaves_nothing: None) -> Iterator[None]:
    """Closes what the test opened: frameworks keep their backends for as long as the process lives."""
    yield
    gc.collect()
    for found in gc.get_objects():
        if isinstance(found, (mv.VolatileCache, mv.SharedCache)):
            found.close()
    del found
    join_threads()


# ---- files, and stores of arrays


@pytest.fixture
def cache(closing: None) -> mv.VolatileCache[Any, Any]:
    """For files' blocks."""
    return mv.VolatileCache(copy=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of some blocks and a part of one."""
    from support.disks import SIZE, Disk

    Disk.asked.clear()
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(scope="module")
def zarr_as_it_was() -> Iterator[None]:
    """Its loop, and the threads that it reads files with, stay: they are here before a test counts its own. Its
    configuration does not.
    """
    import zarr
    from zarr.core.sync import sync

    most = min(32, (os.cpu_count() or 1) + 4)
    together = threading.Barrier(most)

    async def all_of_them() -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait) for _ in range(most)))

    sync(all_of_them())
    before = zarr.config.get("codec_pipeline.path")
    yield
    zarr.config.set({"codec_pipeline.path": before})


@pytest.fixture
def inner(zarr_as_it_was: None, tmp_path: Path, closing: None) -> Any:
    """A store on the disk, which notes what it is asked."""
    from zarr.storage import LocalStore

    from support.zarrs import Counted

    return Counted(LocalStore(tmp_path / "data.zarr"))


@pytest.fixture(params=["process", "shared"])
def store(request: pytest.FixtureRequest, inner: Any) -> Any:
    """Ours around it."""
    from mvolatile.integrations.zarr import VolatileStore

    if request.param == "process":
        return VolatileStore(inner)
    return VolatileStore(inner, shared="chunks", namespace="here")
