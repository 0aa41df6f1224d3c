"""What is built: the sdist, the wheel made from it, and what a machine without a compiler is told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import mvolatile

ROOT = Path(__file__).resolve().parents[2]
DIRECTORIES = ("src", "tests", "docs", "tools", "examples", "benchmarks", "requirements", ".ci", ".github")
FILES = (
    *("pyproject.toml", "setup.py", "MANIFEST.in", "Makefile", "LICENSE"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"),
    *(".editorconfig", ".pre-commit-config.yaml"),
)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]  # who has built the wheel tries it
SOURCES = (*DIRECTORIES, *FILES)
BUILT = ("*.so", "*.egg-info", "__pycache__", "build", "dist")


def _run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )


def _hook(call: str, cwd: Path) -> None:
    """A hook of the build backend, as every installer calls it."""
    done = _run(sys.executable, "-c", f"import setuptools.build_meta as backend; backend.{call}", cwd=cwd)
    assert done.returncode == 0, done.stdout


def _copy(to: Path) -> Path:
    to.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns(*BUILT))
        elif source.exists():
            shutil.copy(source, to / name)
    return to


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    work = tmp_path_factory.mktemp("sdist")
    _hook(f"build_sdist({str(work)!r})", _copy(work / "tree"))
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(work / "unpacked", filter="data")
    (root,) = (work / "unpacked").iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist and nothing else, so a file missing there shows."""
    work = tmp_path_factory.mktemp("wheel")
    _hook(f"build_wheel({str(work)!r})", sdist)
    (found,) = work.glob("*.whl")
    return found


def test_the_sdist_is_complete(sdist: Path) -> None:
    wanted = {Path(name) for name in FILES} | {
        path.relative_to(ROOT)
        for name in DIRECTORIES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and not any(path.match(f"{kind}/*") or path.match(kind) for kind in BUILT)
    }
    wanted = {path for path in wanted if not {"__pycache__", "mvolatile.egg-info"} & set(path.parts)}
    found = {path.relative_to(sdist) for path in sdist.rglob("*")}
    assert len(wanted) > 300
    assert wanted <= found, f"missing: {sorted(map(str, wanted - found))}"


def test_one_wheel_for_every_python(wheel: Path) -> None:
    name, version, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("mvolatile", "cp311", "abi3")
    assert platform.startswith("linux_")
    with zipfile.ZipFile(wheel) as opened:
        (metadata,) = (one for one in opened.namelist() if one.endswith(".dist-info/WHEEL"))
        assert f"Tag: cp311-abi3-{platform}" in opened.read(metadata).decode()
        (metadata,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        text = opened.read(metadata).decode()
    assert f"Version: {version}" in text
    assert "License-Expression: MIT" in text
    assert "# mvolatile\n" in text
    assert not re.findall(r"\]\((?!https?://).*?\)", text), "an index has neither the pictures nor the pages"
    for extra in ("numpy", "demo", "test", "bench", "all"):
        assert f"Provides-Extra: {extra}\n" in text


def test_what_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    assert not [name for name in inside if name.endswith((".c", ".h"))], "no C sources"
    assert {"mvolatile/_core.abi3.so", "mvolatile/py.typed", "mvolatile/_core.pyi"} <= inside
    assert not [name for name in inside if name.startswith(("tests", "benchmarks"))]
    package = ROOT / "src" / "mvolatile"
    modules = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    assert modules <= inside, f"packages left out of pyproject.toml: {sorted(modules - inside)}"
    assert any(name.endswith("entry_points.txt") for name in inside)


_USE = """
import mvolatile as mv, sys
assert mv.__file__.startswith(sys.argv[1]), mv.__file__
memory = mv.VolatileMemory(8192)
memory.write(b"x" * 8192)
memory.purge()
print(sys.version_info[:2], mv.features().tier, memory.purged())
"""


def _pythons() -> list[str]:
    """This Python and later ones on this machine that work."""
    found = [sys.executable]
    for minor in range(12, 16):
        path = shutil.which(f"python3.{minor}")
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            found.append(path)
    return found


def test_the_wheel_works_on_every_python_here(wheel: Path, tmp_path: Path) -> None:
    """The limited API's promise, kept by the very file."""
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    for python in _pythons():
        done = _run(python, "-s", "-c", _USE, str(tmp_path), cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, f"{python}: {done.stdout}"
        tier = mvolatile.features().tier
        assert done.stdout.endswith(f"{tier} {() if tier == 'unsupported' else ((0, 8192),)}\n")


def test_no_compiler(tmp_path: Path) -> None:
    """A source install where there is none ends in one sentence that names what to install."""
    tree = _copy(tmp_path / "tree")
    done = _run(
        sys.executable,
        *("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "."),
        cwd=tree,
        CC="/nonexistent/cc",
    )
    assert done.returncode != 0
    (sentence,) = (line.strip() for line in done.stdout.splitlines() if "C compiler" in line)
    assert sentence.startswith("error: mvolatile is installed from source here and needs a C compiler")
    assert "install gcc" in sentence
    assert "apt-get install gcc python3-dev" in sentence
    assert "Traceback" not in done.stdout
    assert not list(tree.glob("*.whl"))


def test_types_are_shipped() -> None:
    assert (Path(mvolatile.__file__).parent / "py.typed").exists()
