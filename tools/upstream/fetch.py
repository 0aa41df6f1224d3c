"""Gets a source distribution: the file that PyPI has under that version, if its hash is the one in the table; or one
file by its address, if so.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

from .suites import Source

__all__ = ["UnavailableError", "fetched"]


class UnavailableError(Exception):
    """It cannot be had, or is not what the table names."""


def fetched(source: Source, into: Path) -> Path:
    """The unpacked distribution, or the folder with the file; got once. `UnavailableError` where that cannot be."""
    where = into / f"{source.project}-{source.release}"
    if source.url:
        _get(source, where)
    elif not where.exists():
        files = into / "files" / where.name
        _download(source, files)
        (file,) = files.glob("*.tar.gz")
        unpacked = into / "unpacked" / where.name
        with tarfile.open(file) as archive:
            archive.extractall(unpacked, filter="data")
        (top,) = unpacked.iterdir()
        top.rename(where)
    return where


def _get(source: Source, where: Path) -> None:
    file = where / source.url.rpartition("/")[2]
    if file.exists() and sha256(file.read_bytes()).hexdigest() == source.sha256:
        return
    try:
        with urlopen(source.url, timeout=60) as answer:
            text: bytes = answer.read()
    except OSError as error:
        raise UnavailableError(
            f"{source.url} cannot be had, and {file} is not there or not that: {error}"
        ) from error
    if sha256(text).hexdigest() != source.sha256:
        raise UnavailableError(f"{source.url} is not what the table names")
    where.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)


def _download(source: Source, files: Path) -> None:
    files.mkdir(parents=True, exist_ok=True)
    wanted = files / "wanted.txt"  # pip looks at the hash before it runs anything of the file
    wanted.write_text(f"{source.project}=={source.release} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(files)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UnavailableError(f"{source.project} {source.release} cannot be had:\n{done.stderr}")
