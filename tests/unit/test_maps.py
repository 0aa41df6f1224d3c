"""The maps are whole: of the listing in docs/architecture.md, of docs/where.md, and of the rooms that have one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "mvolatile"
LISTING = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("## Rooms\n\n```\n")[1].split("```")[0]
WHERE = (ROOT / "docs" / "where.md").read_text("utf-8")

ROOMS = ["cache", "cache/eviction", "cache/store", "explore", "kernel", "model", "model/stock", "shared"]
"""Those whose ``__init__.py`` says what each file is; elsewhere a file is one of a kind, and its name says which."""


def missing(names: list[str], text: str) -> list[str]:
    return [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)]


def test_the_listing_has_every_room() -> None:
    entries = [path for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = [path.name + "/" * path.is_dir() for path in entries if path.name != "__main__.py"]
    assert len(names) > 15
    assert not missing([name.removesuffix("/") for name in names], LISTING)


def test_the_listing_has_every_file_of_the_core() -> None:
    text = re.sub(r"(\w+)\.\[ch\]", r"\1.c \1.h", LISTING)
    files = [path.name for path in (SOURCE / "_core").rglob("*.c")]
    assert len(files) > 50
    assert not missing(files, text)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_every_file_in_its_map(room: str) -> None:
    files = [path.stem for path in (SOURCE / room).glob("*.py") if not path.stem.startswith("__")]
    assert files
    assert not missing(files, (SOURCE / room / "__init__.py").read_text("utf-8").split('"""')[1])


def test_every_way_leads_somewhere() -> None:
    """A bare name is of the folder that was named last."""
    ways = 0
    for row in re.findall(r"^\| (?!you want to|-)(.*) \| (.*) \|$", WHERE, re.MULTILINE):
        folder = ""
        for told in re.findall(r"`([\w./-]*[/.][\w./-]*)`", row[1]):
            bases = (SOURCE, SOURCE / folder, ROOT, ROOT / folder, ROOT / "tests", ROOT / "docs")
            places = [base / told for base in bases if (base / told).exists()]
            assert places, f"{row[0]}: {told}"
            ways += 1
            folder = told if places[0].is_dir() else told.rpartition("/")[0] or folder
    assert ways > 60


@pytest.mark.parametrize(
    "wanted", ["eviction policy", "metric", "backend", "system call", "command", "library"]
)
def test_what_is_often_added_has_a_way(wanted: str) -> None:
    assert re.search(rf"^\| [^|]*{wanted}", WHERE, re.MULTILINE)
