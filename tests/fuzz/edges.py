"""A core that counts the edges it takes, in a map that this process shares with every process of a program."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from support.native import build_once, digest, shared_library

__all__ = ["Edges", "counting_core"]

ROOT = Path(__file__).resolve().parents[2]
SIZE = 65536

_BUCKET = np.array([min(8, int(n).bit_length()) for n in range(256)], np.uint8)
"""How often an edge is taken counts in powers of two, as in AFL: the second time round a loop is news, the tenth is
not.
"""


class Edges:
    """What was taken since the last `clear`, and all that was ever new to `news`."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(SIZE))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), SIZE)
        self._counts: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self._seen = np.zeros((SIZE, 9), bool)

    def clear(self) -> None:
        self._counts[:] = 0

    def taken(self) -> frozenset[int]:
        """Each edge with the power of two of its count."""
        at = np.flatnonzero(self._counts)
        return frozenset((at * 9 + _BUCKET[self._counts[at]]).tolist())

    def news(self) -> bool:
        """Whether anything was taken for the first time; remembered."""
        at = np.flatnonzero(self._counts)
        bucket = _BUCKET[self._counts[at]]
        new = not self._seen[at, bucket].all()
        self._seen[at, bucket] = True
        return new

    def total(self) -> int:
        """How many edges have been taken."""
        return int(self._seen.any(axis=1).sum())


def _built() -> Path:
    flags = "-fsanitize-coverage=trace-pc"

    def build(directory: Path) -> None:
        command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(directory)]
        with tempfile.TemporaryDirectory(prefix="mvolatile-edges-") as objects:
            subprocess.run(
                [*command, "--build-base", objects],
                cwd=ROOT,
                env={**os.environ, "CFLAGS": flags},
                check=True,
                stdout=subprocess.DEVNULL,
            )

    sources = [path for path in (ROOT / "src").rglob("*") if path.suffix in (".c", ".h", ".py", ".pyi")]
    return build_once(f"counting-{digest(sorted(sources), flags, sys.version)}", build)


@contextlib.contextmanager
def counting_core() -> Iterator[Edges]:
    """Processes started inside load such a core; the first use builds it."""
    package = _built()
    preload = shared_library("coverage", ("-ldl",))
    with tempfile.TemporaryDirectory(prefix="mvolatile-edges-") as directory:
        file = Path(directory) / "edges"
        edges = Edges(file)
        mine = {
            "LD_PRELOAD": str(preload),
            "MVOLATILE_EDGES": str(file),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")])),
        }
        before = {name: os.environ.get(name) for name in mine}
        os.environ.update(mine)
        try:
            yield edges
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
