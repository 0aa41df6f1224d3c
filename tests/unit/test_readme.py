"""The README's code is run, word for word, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.processes import run_python

README = Path(__file__).parents[2] / "README.md"


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_tutorial_runs() -> None:
    pytest.importorskip("numpy")
    blocks = code_blocks(README.read_text())
    assert len(blocks) >= 6
    said = run_python("\n".join(blocks)).check().stdout
    assert "tiles: 4096 bytes purged" in said  # the loss in the tutorial is real


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
