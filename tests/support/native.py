"""Small C helpers for tests: foreign code that a Python program cannot be made to play."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["SOURCES", "built_directory", "compiler", "load", "shared_library"]

SOURCES = Path(__file__).resolve().parents[1] / "native"


def compiler() -> str | None:
    """The C compiler, or None."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def built_directory() -> Path:
    """Where what tests build is kept from run to run: ours alone, since it is run."""
    directory = Path(tempfile.gettempdir()) / f"mvolatile-tests-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    assert (found.st_uid, found.st_mode & 0o40022) == (os.getuid(), 0o40000), f"{directory} is another's"
    return directory


@functools.cache
def shared_library(name: str, flags: Sequence[str] = ()) -> Path:
    """Build ``tests/native/<name>.c`` once for each content, and answer where the library lies."""
    source = SOURCES / f"{name}.c"
    key = hashlib.sha256(source.read_bytes() + repr(tuple(flags)).encode()).hexdigest()[:16]
    library = built_directory() / f"{name}-{key}.so"
    if not library.exists():
        found = compiler()
        assert found is not None, "the tests build small C helpers: install gcc"
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [found, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *flags]
        subprocess.run([*command, str(source), "-o", str(unfinished), "-pthread"], check=True)
        unfinished.rename(library)
    return library


def load(name: str) -> ctypes.CDLL:
    """The library of `shared_library`, with the GIL released around its functions."""
    return ctypes.CDLL(str(shared_library(name)), use_errno=True)
