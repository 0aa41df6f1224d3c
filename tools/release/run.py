"""Running commands that must succeed, and saying what is being done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

__all__ = ["ROOT", "ReleaseError", "ended", "epoch", "run", "step", "tool", "version"]

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


class ReleaseError(Exception):
    """A check did not hold; the message says which and how."""


def step(name: str, check: Callable[[], T]) -> T:
    """Do one thing, with a line about it: its time, and what it answers if that is text."""
    print(f"{name} ... ", end="", flush=True)
    begun = time.monotonic()
    try:
        answer = check()
    except ReleaseError:
        print("FAILED")
        raise
    said = f": {answer}" if isinstance(answer, str) else ""
    print(f"ok{said} ({time.monotonic() - begun:.0f} s)")
    return answer


def ended(
    *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however it ends; both its outputs are one text."""
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=dict(os.environ if env is None else env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )


def run(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    """What a command says, which must succeed."""
    done = ended(*command, cwd=cwd, env=env)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def tool(name: str) -> Path:
    """A program of the environment that runs us."""
    return Path(sys.executable).parent / name


def version() -> str:
    """The one place where it is written is pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def epoch() -> str:
    """SOURCE_DATE_EPOCH: that which is set, or the time of the last commit."""
    return os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct").strip()
