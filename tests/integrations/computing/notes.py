"""What was made, and where: a line for each, in a file that processes share."""

from __future__ import annotations

import os
from pathlib import Path


def note(log: str) -> None:
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")


def made(log: str) -> int:
    return len(Path(log).read_text().splitlines()) if Path(log).exists() else 0
