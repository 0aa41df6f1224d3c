"""What can be said about the files by looking at them."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .build import Built
from .run import ROOT, ReleaseError, ended, run, tool, version

__all__ = [
    "committed",
    "complete",
    "descriptions",
    "limited_api",
    "same_bytes",
    "version_is_told",
    "workflows",
]


def version_is_told() -> str:
    """The changelog has a section for it, with something in it; if the version's tag is being released, with a date."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    section = re.search(rf"^## {re.escape(version())}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if section is None or not section[1].strip():
        raise ReleaseError(f"CHANGELOG.md says nothing about {version()}")
    if "unreleased" in section[0].partition("\n")[0] and is_tagged():
        raise ReleaseError(f"CHANGELOG.md calls {version()} unreleased, and v{version()} is being released")
    return version()


def is_tagged() -> bool:
    """Whether what is checked is the version's tag: of this commit, or the one that a workflow runs for."""
    tags = ended("git", "tag", "--points-at", "HEAD").stdout.split()
    return f"v{version()}" in (*tags, os.environ.get("GITHUB_REF_NAME"))


def committed() -> str:
    """What is built is what the commit says. Answers the commit."""
    if changed := run("git", "status", "--porcelain", "--untracked-files=no").strip():
        raise ReleaseError(f"uncommitted changes would be built:\n{changed}")
    return run("git", "rev-parse", "--short", "HEAD").strip()


def complete(sdist: Path) -> None:
    """The source distribution has every file of the repository."""
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    if missing := set(filter(None, run("git", "ls-files", "-z").split("\0"))) - inside:
        raise ReleaseError(f"{sdist.name} lacks {sorted(missing)}; see MANIFEST.in")


def workflows() -> None:
    """Those that CI and the release run by are what the forge would take."""
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *files)


def same_bytes(first: Built, second: Built) -> None:
    """Two builds, at different times and in different places, differ in nothing."""
    for one, other in zip(first, second, strict=True):
        if one.name != other.name:
            raise ReleaseError(f"{one.name} was called {other.name} the second time")
        if one.read_bytes() != other.read_bytes():
            differing = sorted(set(_inside(one)) ^ set(_inside(other)))
            raise ReleaseError(f"{one.name} is not reproducible: {differing or 'the archive itself'}")


def _inside(archive: Path) -> Iterator[tuple[str, str]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                yield f"{entry.filename} {entry.date_time}", hashlib.sha256(wheel.read(entry)).hexdigest()
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist.getmembers():
                file = sdist.extractfile(member)
                yield member.name, hashlib.sha256(file.read() if file else b"").hexdigest()


def descriptions(files: Built) -> None:
    """Metadata and README as an index would show them: no link of theirs leads to a file that is not there."""
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    for file in files:
        if found := re.findall(r"\]\((?!https?://)[^)]*\)|(?:src|href)=\S*", _metadata(file)):
            raise ReleaseError(
                f"{file.name}: the description has links that lead nowhere on an index: {found}"
            )


def _metadata(archive: Path) -> str:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
            return wheel.read(name).decode()
    with tarfile.open(archive) as sdist:
        file = sdist.extractfile(f"{archive.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert file is not None
        return file.read().decode()


def limited_api(wheel: Path) -> str:
    """One wheel for every Python from 3.11 on, by its tag and by what its core uses. Answers the platform."""
    _, _, python, abi, platform = wheel.stem.split("-")
    if (python, abi) != ("cp311", "abi3"):
        raise ReleaseError(f"{wheel.name} is for {python}-{abi}, not for cp311-abi3")
    if not platform.startswith("manylinux_"):
        raise ReleaseError(f"{wheel.name} is not a manylinux wheel")
    run(tool("abi3audit"), "--strict", wheel)
    return platform
