"""docs/hardening.md names tests that there are, and says of the longest ones where they are run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "hardening.md").read_text()
ROWS = re.findall(
    r"^\| `(tests/[\w/]+\.py)::(\w+)(?:\[.*?\])?` \| \d+ \| (test|check) \|", PAGE, re.MULTILINE
)


def marks(path: str, name: str) -> str:
    """What stands above the function, and above its parameters."""
    functions = [
        node
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert len(functions) == 1, f"{path} has no {name}: see docs/hardening.md"
    return "\n".join(map(ast.unparse, functions[0].decorator_list))


def test_there_are_twenty() -> None:
    assert len(ROWS) == 20


@pytest.mark.parametrize(("path", "name", "where"), ROWS, ids=lambda part: part)
def test_the_longest_tests_exist_and_are_run_where_the_page_says(path: str, name: str, where: str) -> None:
    slow = "pytest.mark.slow" in marks(path, name)
    assert slow or where == "test", f"{name} is not marked slow"


def test_every_test_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"tests/[\w/]+\.(?:py|c|txt|supp)", PAGE))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
