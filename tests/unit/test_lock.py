"""requirements/*.txt name what pyproject.toml asks for, for every Python that the package supports."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [kind.rpartition(" ")[2] for kind in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", kind)]
LOCKS = {"test.txt": "all", "dev.txt": "dev"}


def environment(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }


def locked(name: str, python: str) -> dict[str, Version]:
    """What pip would install of it."""
    found: dict[str, Version] = {}
    text = (ROOT / "requirements" / name).read_text()
    for package, version, marker in re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", text, re.MULTILINE):
        if not marker or Marker(marker).evaluate(environment(python)):
            assert package not in found, f"{package} twice"
            found[package] = Version(version)
    return found


def asked(extra: str, python: str) -> Iterator[Requirement]:
    for text in PROJECT["optional-dependencies"][extra]:
        wanted = Requirement(text)
        if wanted.name == PROJECT["name"]:
            for other in wanted.extras:
                yield from asked(other, python)
        elif wanted.marker is None or wanted.marker.evaluate(environment(python)):
            yield wanted


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_locked(name: str, python: str) -> None:
    found = locked(name, python)
    for wanted in asked(LOCKS[name], python):
        package = re.sub(r"[-_.]+", "-", wanted.name).lower()
        assert package in found, f"{wanted} is not in requirements/{name}: run make lock"
        assert found[package] in wanted.specifier, f"{wanted}, not {found[package]}: run make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_both_locks_name_the_same_versions(python: str) -> None:
    few, all_of_them = (locked(name, python) for name in LOCKS)
    assert few
    assert few.items() <= all_of_them.items(), "run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_nothing_is_installed_without_a_hash(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    packages = re.split(r"^(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    assert [one for one in packages if one and "--hash=sha256:" not in one] == []
