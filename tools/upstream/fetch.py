"""Gets a source distribution: the file that PyPI has under that version, if its hash is the one in the table."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from .suites import Source

__all__ = ["fetched"]


def fetched(source: Source, into: Path) -> Path:
    """The unpacked distribution; got once. `SystemExit` if it cannot be had, or is not what the table names."""
    where = into / f"{source.project}-{source.release}"
    if not where.exists():
        files = into / "files" / where.name
        _download(source, files)
        (file,) = files.glob("*.tar.gz")
        unpacked = into / "unpacked" / where.name
        with tarfile.open(file) as archive:
            archive.extractall(unpacked, filter="data")
        (top,) = unpacked.iterdir()
        top.rename(where)
    return where


def _download(source: Source, files: Path) -> None:
    files.mkdir(parents=True, exist_ok=True)
    wanted = files / "wanted.txt"  # pip looks at the hash before it runs anything of the file
    wanted.write_text(f"{source.project}=={source.release} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(files)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{source.project} {source.release} cannot be had:\n{done.stderr}")
