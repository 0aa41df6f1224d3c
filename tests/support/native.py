"""Small C helpers for tests: foreign code that a Python program cannot be made to play."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

__all__ = [
    "SOURCES",
    "build_once",
    "built_directory",
    "compiler",
    "digest",
    "load",
    "run_compiler",
    "shared_library",
]

SOURCES = Path(__file__).resolve().parents[1] / "native"


def compiler() -> str | None:
    """The C compiler, or None."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def digest(files: Iterable[Path], *rest: object) -> str:
    """A name for what is built of these files, in this way."""
    key = hashlib.sha256(
        repr(rest).encode()
    )  # not of the compiler: where there is none, what was brought is found
    for file in files:
        key.update(file.name.encode() + file.read_bytes())
    return key.hexdigest()[:16]


def built_directory() -> Path:
    """Where what tests build is kept from run to run: ours alone, since it is run."""
    directory = Path(tempfile.gettempdir()) / f"mvolatile-tests-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    assert (found.st_uid, found.st_mode & 0o40022) == (os.getuid(), 0o40000), f"{directory} is another's"
    return directory


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """The file or directory `name`, which `build` makes where it is told; once, whoever wants it at the same time."""
    target = built_directory() / name
    if not target.exists():
        with (built_directory() / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=built_directory()) as scratch:
                    unfinished = Path(scratch) / target.name
                    build(unfinished)
                    unfinished.rename(target)
    return target


def run_compiler(*arguments: str | Path) -> None:
    """It must be there, and end well."""
    found = compiler()
    assert found is not None, "the tests build small C programs: install gcc"
    subprocess.run([found, *arguments], check=True)


@functools.cache
def shared_library(name: str, flags: Sequence[str] = ()) -> Path:
    """Build ``tests/native/<name>.c`` once for each content, and answer where the library lies."""
    source = SOURCES / f"{name}.c"
    wanted = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", *flags]
    return build_once(
        f"{name}-{digest([source], wanted)}.so", lambda target: run_compiler(*wanted, source, "-o", target)
    )


def load(name: str) -> ctypes.CDLL:
    """The library of `shared_library`, with the GIL released around its functions."""
    return ctypes.CDLL(str(shared_library(name)), use_errno=True)
