"""Which code a result is about, and whether it is still today's."""

from __future__ import annotations

import functools
import subprocess
import tomllib
from pathlib import Path

from .results import Code

__all__ = ["same", "same_release", "today"]

_ROOT = Path(__file__).resolve().parents[2]
_RUN = ("src", "setup.py", "tests", "tools/kernels/guest")
"""What goes into the image."""


@functools.cache
def today() -> Code:
    """That of the working tree."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    commit = _git("rev-parse", "--short=9", "HEAD").stdout.strip() or "unknown"
    clean = _git("diff", "--quiet", "HEAD", "--", *_RUN).returncode == 0
    return Code(project["version"], commit if clean else f"{commit}+")


def same_release(code: Code) -> bool:
    """Whether both are of one release, or on the way to it."""
    return code.release == today().release


@functools.cache
def same(code: Code) -> bool:
    """Whether nothing that runs in a cell has changed since; no, where git cannot tell."""
    known = bool(code.commit) and not code.commit.endswith("+")
    return known and _git("diff", "--quiet", code.commit, "--", *_RUN).returncode == 0


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
