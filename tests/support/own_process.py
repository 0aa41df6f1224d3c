"""Tests that fork in C run in a process of their own, all of a module together.

A worker of pytest-xdist has a thread that may want Python's lock at any time. A child that C code forks at that moment
would give way to a thread that it does not have, and hang: CPython's hazard (docs/limits.md), and not what is tested.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

__all__ = ["is_worker", "run"]

_MARK = "own_process"
_results: dict[Path, dict[str, ElementTree.Element]] = {}
"""By module, and by test: what a pytest without workers said of them."""


def is_worker() -> bool:
    """Whether this process runs tests for another."""
    return "PYTEST_XDIST_WORKER" in os.environ


def run(item: pytest.Item) -> None:
    """Fails, or is skipped, as the test does there."""
    if item.path not in _results:
        _results[item.path] = _run_all(
            [one for one in item.session.items if one.path == item.path and one.get_closest_marker(_MARK)]
        )
    said = _results[item.path][item.name]
    for bad in (*said.findall("failure"), *said.findall("error")):
        pytest.fail(f"in a process of its own:\n{bad.text}", pytrace=False)
    for skipped in said.findall("skipped"):
        pytest.skip(skipped.get("message", ""))


def _name(item: pytest.Item) -> str:
    """Its own: pytest-xdist adds the group, which is the module's path (`conftest.py`)."""
    return item.nodeid.removesuffix(f"@{item.path}")


def _run_all(items: list[pytest.Item]) -> dict[str, ElementTree.Element]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with tempfile.NamedTemporaryFile(suffix=".xml") as told:
        options = ["-p", "no:xdist", "-p", "no:cacheprovider", f"--junitxml={told.name}"]
        command = [sys.executable, "-m", "pytest", *options, *map(_name, items)]
        done = subprocess.run(command, cwd=items[0].config.rootpath, env=env, capture_output=True, text=True)
        if done.returncode not in (0, 1):  # it did not come to the tests, or not to their end
            pytest.fail(f"a pytest of its own:\n{done.stdout}{done.stderr}", pytrace=False)
        return {case.get("name", ""): case for case in ElementTree.parse(told.name).iter("testcase")}
