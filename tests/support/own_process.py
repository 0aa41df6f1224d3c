"""Tests that fork in C run in a process of their own.

A worker of pytest-xdist has a thread that may want Python's lock at any time. A child that C code forks at that moment
would give way to a thread that it does not have, and hang: CPython's hazard (docs/limits.md), and not what is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

__all__ = ["is_worker", "run"]


def is_worker() -> bool:
    """Whether this process runs tests for another."""
    return "PYTEST_XDIST_WORKER" in os.environ


def run(item: pytest.Item) -> None:
    """Run one test by a pytest without workers; fails, or is skipped, as it does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", item.nodeid]
    done = subprocess.run(command, cwd=item.config.rootpath, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"in a process of its own:\n{done.stdout}{done.stderr}", pytrace=False)
    if " passed" not in done.stdout:
        pytest.skip(next(line for line in done.stdout.splitlines() if line.startswith("SKIPPED")))
