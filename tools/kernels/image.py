"""The initramfs: three archives one after the other, as the kernel allows, rebuilt only as often as each changes.

The first holds the running Python and the packages that the tests need, the second the kernel's modules for zram,
the third the project's wheel and its tests.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

from .debian import Kernel

__all__ = ["build", "unpack"]

ROOT = Path(__file__).resolve().parents[2]
_GUEST = Path(__file__).resolve().parent / "guest"
_PACKAGES = ("numpy", "pytest", "pytest-timeout", "hypothesis", "typing_extensions")
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "test", "tests", "__pycache__", "*.a", "config-*", "idlelib", "tkinter", "lib2to3", "ensurepip",
    "turtledemo", "pydoc_data", "distutils", "*.pyi", "f2py",
)  # fmt: skip
_MODULES = ("lzo-rle", "lzo_rle", "zram")
"""What zram needs on top of what its module names: 6.1 asks for its compressor by an alias, through modprobe."""


def build(kernel: Kernel, directory: Path) -> Path:
    """An uncompressed initramfs for `kernel` in `directory`; unpacking is slow under emulation, loading is not."""
    archives = [_python(directory), _modules(kernel, directory), _project(directory)]
    image = directory / f"initramfs-{kernel.release}.cpio"
    with image.open("wb") as joined:
        for archive in archives:
            with archive.open("rb") as part:
                shutil.copyfileobj(part, joined)
    return image


def unpack(directory: Path, root: Path) -> None:
    """The same Python, wheel and tests below `root`, which other users may enter, with a home for each user."""
    root.chmod(0o755)
    for archive in (_python(directory), _project(directory)):
        with archive.open("rb") as packed:
            subprocess.run(["cpio", "-i", "-d", "-m", "--quiet"], cwd=root, stdin=packed, check=True)
    for name, owner in (("root", 0), ("user", 1000)):
        (root / name).mkdir()
        if os.geteuid() == 0:
            os.chown(root / name, owner, owner)


# ---- Python


def _python(directory: Path) -> Path:
    distributions = _closure(_PACKAGES)
    key = [sys.version, *(f"{one.name} {one.version}" for one in distributions), _read(Path(__file__))]
    archive = directory / f"python-{_digest(key)}.cpio"
    if archive.exists():
        return archive
    root = _empty(directory / "python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = root / "py/lib" / version
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=_LEFT_OUT, symlinks=True)
    program = root / "py/bin" / version
    program.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), program)
    (program.parent / "python3").symlink_to(version)
    for distribution in distributions:
        _copy_distribution(distribution, library / "site-packages")
    _copy_libraries(root, [program, *library.rglob("*.so*")])
    (root / "bin").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None, "install_tools() has seen to it"
    shutil.copy(busybox, root / "bin/busybox")
    _copy_libraries(root, [root / "bin/busybox"])
    _compile(library)
    return _archive(root, archive)


def _closure(names: Iterable[str]) -> list[importlib.metadata.Distribution]:
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return [found[name] for name in sorted(found)]


def _copy_distribution(distribution: importlib.metadata.Distribution, to: Path) -> None:
    ignored = {"tests", "__pycache__", "f2py"}
    for file in distribution.files or ():
        if ".." in file.parts or ignored & set(file.parts) or file.suffix in (".a", ".pyi", ".pyc"):
            continue
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(file.locate()), target)


def _copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    """The shared libraries that ldd finds outside of `root`, in one directory, and the loader where it must lie."""
    target = root / "py/lib"
    target.mkdir(parents=True, exist_ok=True)
    paths = [str(path) for path in programs if path.is_file()]
    said = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=False).stdout
    for line in sorted(set(said.splitlines())):
        found = re.search(r"(?:(\S+) => )?(/\S+) \(0x", line)
        if found is None or Path(found[2]).is_relative_to(root):
            continue
        path = target / found[1] if found[1] else root / found[2].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(found[2]).resolve(), path)


def _compile(library: Path) -> None:
    """Compiling under emulation would take longer than the tests; the archive has no times to compare."""
    options = ["-q", "-j2", "--invalidation-mode", "unchecked-hash", "-s", str(library.parents[2])]
    subprocess.run(
        [sys.executable, "-m", "compileall", *options, str(library)], check=False, stdout=subprocess.DEVNULL
    )


# ---- modules


def _modules(kernel: Kernel, directory: Path) -> Path:
    """The modules in the order in which they must be loaded: the first lines of ``/modules/order``."""
    root = _empty(directory / "modules")
    target = root / "modules"
    target.mkdir()
    files = {path.name.split(".")[0]: path for path in kernel.modules.rglob("*.ko*")}
    order: list[str] = []

    def add(name: str) -> None:
        path = files.get(name) or files.get(name.replace("_", "-"))
        if path is None or path.name in order:
            return
        code = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        found = re.search(rb"\0depends=([^\0]*)\0", code)
        for needed in found[1].decode().split(",") if found else []:
            add(needed)
        plain = path.name.removesuffix(".xz")
        if plain not in order:
            (target / plain).write_bytes(code)
            order.append(plain)

    for name in _MODULES:
        add(name)
    (target / "order").write_text("\n".join(order) + "\n")
    return _archive(root, directory / f"modules-{kernel.release}.cpio")


# ---- the project


def _project(directory: Path) -> Path:
    root = _empty(directory / "project")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = root / "py/lib" / version / "site-packages"
    shutil.unpack_archive(_wheel(directory), packages, "zip")
    shutil.copytree(ROOT / "tests", root / "project/tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root / "project")
    for user in (0, 1000):
        home = root / "libraries" / f"mvolatile-tests-{user}"
        home.mkdir(parents=True)
        shutil.copy(_helper(), home)
    shutil.copy(_GUEST / "init", root / "init")
    (root / "init").chmod(0o755)
    shutil.copy(_GUEST / "run.py", root / "project")
    _compile(packages)
    _compile(root / "project")
    return _archive(root, directory / "project.cpio")


def _helper() -> str:
    """The tests' one C helper, built here and named as the tests look for it: there is no compiler inside."""
    code = "from support import native; print(native.shared_library('handlers'))"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT / "tests", capture_output=True, text=True, check=True
    ).stdout.strip()


def _wheel(directory: Path) -> Path:
    """Built from a copy: setuptools would put modules that its last build left behind into the wheel."""
    source = _empty(directory / "source")
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheels = _empty(directory / "wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(wheels),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the wheel cannot be built:\n{done.stdout}{done.stderr}")
    return next(wheels.glob("*.whl"))


# ---- archives


def _archive(root: Path, archive: Path) -> Path:
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    unfinished = archive.with_suffix(".unfinished")
    with unfinished.open("wb") as out:
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
            cwd=root, input=names.encode() + b"\n", stdout=out, check=True,
        )  # fmt: skip
    shutil.rmtree(root)
    return unfinished.rename(archive)


def _empty(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _read(path: Path) -> str:
    return path.read_text()
