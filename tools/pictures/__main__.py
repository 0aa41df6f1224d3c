"""Draw every picture: ``python -m tools.pictures [DIRECTORY]``, by default into docs/images."""

from __future__ import annotations

import sys
from pathlib import Path

from . import architecture, benchmarks, cache_tables

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main(directory: Path = IMAGES) -> None:
    """Write them all; the same results give the same files."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "architecture.svg").write_text(architecture.picture())
    (directory / "working_set.md").write_text(benchmarks.working_set_table())
    (directory / "cache_measured.md").write_text(cache_tables.text())
    for name in benchmarks.PICTURES:
        benchmarks.draw(name, directory / f"{name}.svg")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
