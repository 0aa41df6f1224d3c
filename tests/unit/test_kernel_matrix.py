"""The tool that runs tests on other kernels: its plan, what it takes from a run, its table, and where it cannot."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support import tiers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package, with the modules that these tests use."""
    monkeypatch.syspath_prepend(ROOT)
    import tools.kernels.code
    import tools.kernels.machine
    import tools.kernels.matrix
    import tools.kernels.results
    import tools.kernels.table

    return tools.kernels


@pytest.mark.parametrize("without", [frozenset(), frozenset({"v1"})])
def test_any_two_conditions_meet(kernels: ModuleType, without: frozenset[str]) -> None:
    cells = kernels.matrix.covering(without)
    for one, other in itertools.combinations(kernels.matrix.AXES, 2):
        met = {(cell.as_dict()[one], cell.as_dict()[other]) for cell in cells}
        axes = [
            [value for value in kernels.matrix.AXES[axis] if value not in without] for axis in (one, other)
        ]
        assert met == set(itertools.product(*axes)), (one, other)
    assert len(cells) <= 8, "a boot more is ten minutes more"


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_what_a_run_tells_is_taken(kernels: ModuleType, tmp_path: Path, tier: str) -> None:
    program = tmp_path / "test_program.py"
    program.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "def test_left_out(): pytest.skip('no such thing')\n"
        "@pytest.mark.parametrize('tier', ['userfaultfd', 'faultcount', 'unsupported'])\n"
        "def test_of_a_tier(tier): pass\n"
    )
    told = tmp_path / "told"
    told.touch()
    done = subprocess.run(
        [sys.executable, ROOT / "tools/kernels/guest/run.py"],
        env={
            **os.environ,
            "CELL_RESULTS": str(told),
            "CELL_TESTS": str(program),
            "CELL_USER": "root" if os.geteuid() == 0 else "user",
            "MVOLATILE_TIER": tier,
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    result = kernels.results.Result(kernels.results.RUNNING, {"tier": tier, "user": "any"}, "")
    for line in told.read_text().splitlines():
        result.take(json.loads(line))
    if result.error and "cannot be had" in done.stderr:
        pytest.skip(f"no tier {tier} here")
    assert (result.collected, result.passed, result.failed, result.skipped) == (4, 2, 1, 1), done.stdout
    assert "assert 1 == 2" in next(iter(result.failures.values()))
    assert result.skips == {"no such thing": 1}
    assert result.error is None
    assert not result.good
    assert result.cell["tier"] == tier


@pytest.mark.parametrize(("panics", "boots"), [(0, 1), (1, 2), (9, 3)])
def test_a_machine_that_panics_before_any_test_is_booted_again(
    kernels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, panics: int, boots: int
) -> None:
    """With a stand-in for QEMU: such a panic cannot be asked for."""
    emulator = tmp_path / "qemu-system-x86_64"
    emulator.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
console, results = (word.removeprefix("file:") for word in sys.argv if word.startswith("file:"))
here = pathlib.Path({str(tmp_path)!r})
n = len(list(here.glob("boot*")))
(here / f"boot{{n}}").touch()
pathlib.Path(console).write_text("Kernel panic - not syncing" if n < {panics} else "")
if n >= {panics}:
    with open(results, "w") as told:
        print(json.dumps({{"collected": 1}}), file=told)
"""
    )
    emulator.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    machine, cell = kernels.machine, kernels.matrix.covering()[0]
    kernel = machine.Kernel("7.3", tmp_path / "image", tmp_path, tmp_path)
    result = machine.boot("7", kernel, tmp_path / "initrd", cell, tmp_path / "log", 60, lambda _: None)
    assert len(list(tmp_path.glob("boot*"))) == boots
    assert result.collected == (panics < boots)


def test_results_are_kept_and_shown(kernels: ModuleType, tmp_path: Path) -> None:
    results, kept = kernels.results, tmp_path / "results.json"
    first, second, third = kernels.matrix.covering()[:3]
    good = results.Result("6.1", first.as_dict(), "2026-01-01", "6.1.0-1", passed=5, error=None)
    bad = results.Result("6.1", second.as_dict(), "2026-01-01", "6.1.0-1", passed=5, error=None)
    bad.failures["test_one"] = ">   assert a == 2\nE   assert 1 == 2\n\none.py:5: AssertionError"
    results.save(kept, [good, bad])
    waiting = results.not_run("6.1", "6.1.0-1", [first, second, third], kept)
    assert [one.cell for one in waiting] == [third.as_dict()]
    assert results.save(kept, waiting) == [good, bad, *waiting]
    assert results.good(kept, lambda code: True) == {good.key}
    assert results.good(kept, lambda code: code.commit == "abc") == set()
    kernels.table.write(tmp_path / "kernels.md", results.load(kept), 1024)
    rows = [line for line in (tmp_path / "kernels.md").read_text().splitlines() if "6.1.0-1 |" in line]
    assert [row.split(" | ")[7] for row in rows] == ["good", "**failed**", results.NOT_RUN]
    assert [row.split(" | ")[8] for row in rows] == ["5 / 0 / 0", "5 / 1 / 0", ""]
    assert "`test_one`: `assert 1 == 2 at one.py:5: AssertionError`" in (tmp_path / "kernels.md").read_text()


def test_a_result_holds_while_what_ran_is_the_same(kernels: ModuleType) -> None:
    code, result = kernels.code, kernels.results.Code
    today = code.today()
    if today.commit == "unknown":
        pytest.skip("no repository")
    assert code.same_release(result(today.release, "of old"))
    assert not code.same_release(result("0.0.1", today.commit))
    assert not code.same(result(today.release, ""))
    assert not code.same(result(today.release, "of old"))
    assert not code.same(result(today.release, f"{today.commit}+"))
    assert code.same(today) == (not today.commit.endswith("+"))


def test_the_page_is_what_the_results_say(kernels: ModuleType, tmp_path: Path) -> None:
    results, machine = kernels.results.load(ROOT / "docs/kernels.json"), kernels.machine
    kernels.table.write(tmp_path / "kernels.md", results, machine.MEGABYTES)
    assert (tmp_path / "kernels.md").read_text() == (ROOT / "docs/kernels.md").read_text()


@pytest.mark.parametrize(("flags", "code", "word"), [(["--if-possible"], 0, "skipped"), ([], 2, "cannot")])
def test_where_there_is_no_apt(tmp_path: Path, flags: list[str], code: int, word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.kernels", "--kernel", "6.1", "--tests", "quick", *flags],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(f"{word}: ")
