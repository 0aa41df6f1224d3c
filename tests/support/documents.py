"""The documents' code: fenced blocks by language, for the tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks", "commands", "pages", "program"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block: what it calls itself, what is in it, and where it stands."""

    language: str
    code: str
    line: int


def pages() -> list[Path]:
    """Every document of the project, README first."""
    docs = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "images")
    top = sorted(ROOT.glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    return [*top, ROOT / "benchmarks" / "README.md", *docs]


def blocks(page: Path) -> list[Block]:
    """All of them, from top to bottom."""
    text = page.read_text()
    return [
        Block(found["language"].strip(), found["code"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


def program(page: Path) -> str:
    """The page's Python, as one program whose line numbers are the page's."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python":
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines)


def commands(page: Path) -> list[str]:
    """The command lines of its shell blocks."""
    shell = "".join(block.code for block in blocks(page) if block.language == "shell")
    lines = (line.partition(" #")[0].strip() for line in shell.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]
