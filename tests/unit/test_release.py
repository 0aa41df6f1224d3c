"""What `make release-check` judges by, tried on what it must refuse, and the workflows that CI and releases run by."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import mvolatile
from tools.release import judge, run
from tools.release.build import Built
from tools.release.run import ROOT, ReleaseError

WORKFLOWS = ROOT / ".github" / "workflows"


def test_the_version_is_written_once() -> None:
    version = run.version()
    assert mvolatile.__version__ == version
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.[ch]"), ROOT / "setup.py"]
    assert not [path for path in files if f'"{version}"' in path.read_text()]


def test_the_changelog_tells_of_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge.version_is_told() == run.version()
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    for text in (
        "# Changelog\n",
        f"# Changelog\n\n## {run.version()}\n\n## 0.0.1\n\nOlder.\n",
        "## 90.1.0\n\nOther.\n",
    ):
        (tmp_path / "CHANGELOG.md").write_text(text)
        with pytest.raises(ReleaseError, match="says nothing about"):
            judge.version_is_told()


def test_a_tag_is_no_longer_unreleased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {run.version()} (unreleased)\n\nFirst.\n")
    assert judge.version_is_told() == run.version()
    monkeypatch.setenv("GITHUB_REF_NAME", f"v{run.version()}")
    with pytest.raises(ReleaseError, match="unreleased"):
        judge.version_is_told()
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {run.version()} (2026-11-24)\n\nFirst.\n")
    assert judge.version_is_told() == run.version()


def test_uncommitted_changes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "run", lambda *command: " M README.md\n" if "status" in command else "abc\n")
    with pytest.raises(ReleaseError, match=r"README\.md"):
        judge.committed()
    monkeypatch.setattr(judge, "run", lambda *command: "" if "status" in command else "abc\n")
    assert judge.committed() == "abc"


def test_an_sdist_that_lacks_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdist = tmp_path / "mvolatile-1.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(ROOT / "README.md", "mvolatile-1/README.md")
    monkeypatch.setattr(judge, "run", lambda *command: "README.md\0")
    judge.complete(sdist)
    monkeypatch.setattr(judge, "run", lambda *command: "README.md\0tests/conftest.py\0")
    with pytest.raises(ReleaseError, match=r"tests/conftest\.py"):
        judge.complete(sdist)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("see [there](https://example.org/x)", True),
        ("see [there](docs/demo.md)", False),
        ("![a picture](docs/images/demo.png)", False),
        ('<img src="docs/images/demo.png">', False),
    ],
)
def test_links_that_lead_nowhere_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, good: bool
) -> None:
    monkeypatch.setattr(judge, "run", lambda *command: "")
    file = tmp_path / "mvolatile-1-cp311-abi3-manylinux_2_34_x86_64.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mvolatile-1.dist-info/METADATA", text)
    if good:
        judge.descriptions(Built(file, file))
    else:
        with pytest.raises(ReleaseError, match="lead nowhere"):
            judge.descriptions(Built(file, file))


def wheel(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mvolatile/a.py", text)
    return path


def test_bytes_that_differ_are_named(tmp_path: Path) -> None:
    name = "mvolatile-1-cp311-abi3-manylinux_2_34_x86_64.whl"
    one, same, other = (
        wheel(tmp_path / at / name, text) for at, text in (("1", "x"), ("2", "x"), ("3", "y"))
    )
    judge.same_bytes(Built(one, one), Built(one, one))
    with pytest.raises(ReleaseError, match=r"not reproducible.*mvolatile/a\.py"):
        judge.same_bytes(Built(one, same), Built(one, other))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mvolatile-1-cp311-cp311-manylinux_2_34_x86_64.whl", "not for cp311-abi3"),
        ("mvolatile-1-cp311-abi3-linux_x86_64.whl", "not a manylinux wheel"),
    ],
)
def test_wheels_of_other_kinds_are_refused(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(ReleaseError, match=complaint):
        judge.limited_api(wheel(tmp_path / name, ""))


def workflow(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load((WORKFLOWS / name).read_text()))


def test_ci_runs_what_everybody_can_run() -> None:
    jobs = workflow("ci.yml")["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    pythons = matrix["python"]
    told = [kind for kind in known if re.search(r":: 3\.\d+$", kind)]
    assert told == [f"Programming Language :: Python :: {python}" for python in pythons]
    for job in jobs.values():
        assert job["steps"][-1]["run"] == ".ci/run ${{ matrix.target }}"
    targets = [*jobs["looks"]["strategy"]["matrix"]["target"], *matrix["target"]]
    everything = re.search(r"set -- (.*)", (ROOT / ".ci" / "run").read_text())
    assert everything is not None
    assert targets == everything[1].split()
    assert {one["tier"] for one in matrix["include"]} >= {"faultcount", "unsupported"}


def test_what_is_run_weekly_can_be_run_here() -> None:
    jobs = workflow("weekly.yml")["jobs"]
    targets = [*jobs["long"]["strategy"]["matrix"]["target"]]
    targets += [step["run"].removeprefix("make ") for step in jobs["free-threaded"]["steps"] if "run" in step]
    assert {"stress", "tsan", "sanitize", "soak", "coverage", "kernels", "check"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_each_wheel_is_built_once() -> None:
    """release-check builds that of x86-64 and glibc; cibuildwheel the others."""
    names = []
    for machine in ("x86_64", "aarch64"):
        command = [sys.executable, "-m", "cibuildwheel", "--platform", "linux", "--archs", machine]
        done = subprocess.run(
            [*command, "--print-build-identifiers", ROOT], capture_output=True, text=True, check=False
        )
        if "No module named cibuildwheel" in done.stderr:
            pytest.skip("needs cibuildwheel: make .venv/ready-dev")
        assert done.returncode == 0, done.stderr
        names += done.stdout.split()
    assert len(names) == len(set(names)) == 7
    assert "cp311-manylinux_x86_64" not in names
    assert {"cp311-musllinux_x86_64", "cp311-manylinux_aarch64", "cp311-musllinux_aarch64"} < set(names)


def test_the_citation_is_of_this_project() -> None:
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (told["title"], told["license"]) == (project["name"], project["license"])
    assert {author["name"] for author in told["authors"]} == {
        re.search(r"^Copyright \(c\) \d+ (.+)$", (ROOT / "LICENSE").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    }


def test_releases_are_published_without_a_secret() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == [".ci/run"]
    assert jobs["build"]["needs"] == "test"
    assert any(step.get("run", "").startswith("make release-check") for step in jobs["build"]["steps"])
    assert jobs["wheels"]["needs"] == "test"
    assert any(step.get("run") == "make wheels" for step in jobs["wheels"]["steps"])
    publish = jobs["publish"]
    assert publish["needs"] == ["build", "wheels"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text()


@pytest.mark.parametrize("name", ["ci.yml", "release.yml", "weekly.yml"])
def test_actions_are_pinned_and_rights_are_few(name: str) -> None:
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    uses = re.findall(r"uses: (.+)", (WORKFLOWS / name).read_text())
    assert uses
    for one in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one), one
