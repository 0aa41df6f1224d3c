"""docs/containers.md names the test of each restriction, and each test of a restriction stands in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_has_its_test_and_every_test_its_row() -> None:
    rows = [
        line
        for line in (ROOT / "docs/containers.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| restriction")
    ]
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows]
    assert all(named), "a row without a test"
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tests/unit/containers").glob("test_*.py")]
    tests = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set().union(*named) == {name for name in tests if name.startswith("test_")}
