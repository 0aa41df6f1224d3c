"""Debian's cloud kernels: found, downloaded and unpacked without touching the machine's own apt configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kernel", "fetch", "install_tools"]

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES = (
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
)
"""Debian 12 ships both series: 6.1 as its own kernel, 6.12 as a second one through its security suite."""

_TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "cpio": "cpio",
    "busybox": "busybox-static",
    "apt-get": "apt",
}


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
    """Install what the machine lacks of QEMU, cpio and busybox. Raises SystemExit where that fails."""
    missing = [package for program, package in _TOOLS.items() if shutil.which(program) is None]
    if missing:
        sudo = [] if shutil.which("sudo") is None else ["sudo"]
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
            if subprocess.run([*sudo, "apt-get", *command], check=False).returncode:
                raise SystemExit(f"cannot install {', '.join(missing)}: apt-get {command[0]} failed")


def fetch(series: str, directory: Path) -> Kernel:
    """The newest cloud kernel of `series` (``"6.1"``), kept in `directory`. Raises SystemExit if there is none."""
    kept = sorted(directory.glob(f"{series}.*/package/boot/vmlinuz-*"))
    if not kept:
        _download(series, directory)
        kept = sorted(directory.glob(f"{series}.*/package/boot/vmlinuz-*"))
    image = kept[-1]
    package, release = image.parents[1], image.name.removeprefix("vmlinuz-")
    modules = next(
        found for found in (package / "lib/modules", package / "usr/lib/modules") if found.exists()
    )
    return Kernel(release, image, modules / release, image.with_name(f"config-{release}"))


def _download(series: str, directory: Path) -> None:
    apt = _private_apt(directory / "apt")
    pattern = rf"^linux-image-{re.escape(series)}\.[0-9.]+(-[0-9]+|\+deb[0-9]+)-cloud-amd64$"
    names = _output(["apt-cache", *apt, "--names-only", "search", pattern]).split("\n")
    versions = {name: _version(apt, name) for line in names if (name := line.partition(" ")[0])}
    if not versions:
        raise SystemExit(f"Debian has no cloud kernel {series} in {', '.join(suite for _, suite in _SUITES)}")
    name = max(versions, key=lambda one: [int(number) for number in re.findall(r"\d+", versions[one])])
    home = directory / f"{series}.{versions[name].removeprefix(series + '.')}"
    home.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", *apt, "-q", "download", name], cwd=home)
    unfinished = home / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    _run(["dpkg-deb", "-x", str(next(home.glob("*.deb"))), str(unfinished)])
    unfinished.rename(home / "package")


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
    _run(["apt-get", *options, "-q", "update"])
    return options


def _version(apt: list[str], name: str) -> str:
    found = re.search(r"Candidate: (\S+)", _output(["apt-cache", *apt, "policy", name]))
    return found[1] if found else "0"


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
