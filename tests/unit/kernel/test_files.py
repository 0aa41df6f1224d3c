"""Small files of the kernel's are read in the core: no other Python thread can close the descriptor in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mvolatile.kernel import files
from support.processes import run_python


def test_what_is_read_is_what_python_reads() -> None:
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo", "/proc/version"):
        assert files.read(path) == Path(path).read_text().rstrip("\n")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_files_of_any_size_in_any_encoding(tmp_path: Path, size: int) -> None:
    path = tmp_path / "ä file"
    path.write_bytes(b"\xff" * size + b"\n")
    text = files.read(path)
    assert text is not None
    assert text.encode("utf-8", "surrogateescape") == b"\xff" * size


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert files.read(tmp_path / "missing") is None
    assert files.read(tmp_path) is None
    os.mkfifo(tmp_path / "fifo")
    assert files.read(tmp_path / "fifo") == "", "nor does it wait for a writer"


def test_a_cache_in_use_opens_nothing_by_python() -> None:
    """A thread that closes all descriptors would else have one of its own files closed by the cache."""
    program = """
import sys, time
import mvolatile as mv
cache = mv.VolatileCache()
cache.update({number: bytes(2000) for number in range(100)})
assert cache[7] == bytes(2000)
opened = []
sys.addaudithook(lambda event, args: opened.append(args) if event in ("open", "os.listdir", "os.scandir") else None)
end = time.monotonic() + 2
while time.monotonic() < end:
    cache[100] = b"meanwhile" * 100
    cache.get(100)
assert not opened, opened
"""
    run_python(program).check()
