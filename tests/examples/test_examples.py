"""Every example runs, from a user's shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import run_python

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
LACKS_A_PACKAGE = 77


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:mvolatile", str(path)],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=280,
    )
    if done.returncode == LACKS_A_PACKAGE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def test_two_zarr_arrays_share_a_cache(tmp_path: Path) -> None:
    pytest.importorskip("zarr")

    def share(examples: str, folder: str) -> None:  # in a process of its own: zarr's threads stay
        import sys

        sys.path.insert(0, examples)
        import zarr
        from zarr_chunk_cache import ChunkCache

        import mvolatile as mv

        shared = mv.VolatileCache()
        caches = []
        for n, store in enumerate([{}, {}, f"{folder}/a", f"{folder}/b"]):
            array = zarr.create_array(store, shape=(10,), chunks=(5,), dtype="i4")
            array[:] = n
            caches.append(ChunkCache(array, shared))
        assert all(cache.cache is shared for cache in caches), "also while it is empty"
        for _ in range(2):
            assert [cache.chunk(0).tolist() for cache in caches] == [[n] * 5 for n in range(4)]
        assert shared.cache_info()[:2] == (4, 4)
        again = ChunkCache(zarr.open_array(f"{folder}/b"), shared)
        assert again.chunk(0).tolist() == [3] * 5
        assert shared.cache_info()[:2] == (5, 4)

    run_python(share, str(EXAMPLES[0].parent), str(tmp_path)).check()
