"""Debian's cloud kernels: found, downloaded and unpacked without touching the machine's own apt configuration."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kernel", "UnavailableError", "fetch", "install_tools"]

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES = (
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
    ("http://deb.debian.org/debian", "trixie-backports"),
)
"""Debian 12 ships 6.1 as its own kernel, and 6.12 as a second one through its security suite. The backports of Debian
13 follow the newest: they drop a series when the next comes, so "7" stands for the newest that starts with 7.
"""

_TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio", "busybox": "busybox-static"}

_PATIENCE = ("-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20")
"""Where a network swallows what is sent to it, apt would wait for minutes."""


class UnavailableError(Exception):
    """This machine cannot have what is needed; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package."""

    release: str
    image: Path
    modules: Path
    config: Path

    def has(self, option: str) -> bool:
        """Whether ``CONFIG_<option>`` is built in or a module."""
        return re.search(rf"^CONFIG_{option}=[ym]$", self.config.read_text(), re.MULTILINE) is not None


def install_tools() -> None:
    """Install what the machine lacks of QEMU, cpio, busybox and Debian's keys. Raises UnavailableError."""
    if platform.machine() != "x86_64":
        raise UnavailableError(
            f"the kernels and the tests' Python are for x86-64, this is {platform.machine()}"
        )
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise UnavailableError("kernels come from Debian through apt-get, which is not here")
    missing = [package for program, package in _TOOLS.items() if shutil.which(program) is None]
    if not Path(_KEYRING).exists():
        missing.append("debian-archive-keyring")
    if missing:
        root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        install = ["install", "-q", "-y", "--no-install-recommends", *missing]
        for command in (["update", "-q"], install):
            _run([*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *_PATIENCE, *command])


def fetch(series: str, directory: Path) -> Kernel:
    """The newest cloud kernel of `series` (``"6.1"``), kept in `directory`. Raises UnavailableError."""
    package = _newest(series, directory) or _download(series, directory)
    modules = next(found for at in ("lib", "usr/lib") for found in package.glob(f"{at}/modules/{series}.*"))
    release = modules.name
    # From 7.0 on they lie beside the modules.
    image, config = (
        next(path for path in (package / f"boot/{name}-{release}", modules / name) if path.exists())
        for name in ("vmlinuz", "config")
    )
    return Kernel(release, image, modules, config)


def _newest(series: str, directory: Path) -> Path | None:
    kept = directory.glob(f"{series}.*/package")
    return max(kept, key=lambda one: _numbers(one.parent.name), default=None)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _download(series: str, directory: Path) -> Path:
    apt = _private_apt(directory / "apt")
    pattern = rf"^linux-image-{re.escape(series)}\.[0-9.]+(-[0-9]+|\+deb[0-9]+)-cloud-amd64$"
    names = _output(["apt-cache", *apt, "--names-only", "search", pattern]).split("\n")
    versions = {name: _version(apt, name) for line in names if (name := line.partition(" ")[0])}
    if not versions:
        raise UnavailableError(
            f"Debian has no cloud kernel {series} in {', '.join(suite for _, suite in _SUITES)}"
        )
    name = max(versions, key=lambda one: _numbers(versions[one]))
    home = directory / f"{series}.{versions[name].removeprefix(series + '.')}"
    home.mkdir(parents=True, exist_ok=True)
    # From 7.0 on the image, its configuration and its modules are packages of their own, which this one needs.
    needed = re.findall(r"Depends: (\S+)", _output(["apt-cache", *apt, "depends", name]))
    parts = [one for one in needed if one.endswith(name.removeprefix("linux-image"))]
    _run(["apt-get", *_PATIENCE, *apt, "-q", "download", name, *parts], cwd=home)
    unfinished = home / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    for package in home.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(unfinished)])
    return unfinished.rename(home / "package")


def _private_apt(home: Path) -> list[str]:
    """Options that give apt sources, lists and a cache of its own; its package lists are fetched anew."""
    for part in ("lists/partial", "cache/archives/partial", "empty"):
        (home / part).mkdir(parents=True, exist_ok=True)
    sources = home / "sources.list"
    sources.write_text("".join(f"deb [signed-by={_KEYRING}] {url} {suite} main\n" for url, suite in _SUITES))
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": home / "empty",
        "Dir::State::Lists": home / "lists",
        "Dir::State::Status": "/var/lib/dpkg/status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",  # or apt warns that its own user cannot read this directory
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    # Or a list that could not be fetched would be a warning, and a kernel that is there would not be found.
    _run(["apt-get", *_PATIENCE, *options, "-o", "APT::Update::Error-Mode=any", "-q", "update"])
    return options


def _version(apt: list[str], name: str) -> str:
    found = re.search(r"Candidate: (\S+)", _output(["apt-cache", *apt, "policy", name]))
    return found[1] if found else "0"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _run(command: list[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise UnavailableError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
