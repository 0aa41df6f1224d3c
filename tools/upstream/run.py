"""Runs a suite in a process of its own, with keepers of its own, and reads what came of each test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from support.keepers import end_keepers
from support.servers import redis_server

from .fetch import fetched
from .suites import Suite

__all__ = ["Result", "run"]

HERE = Path(__file__).parent / "ours"
ROOT = Path(__file__).resolve().parents[2]
LONGEST = 900
"""Seconds."""


@dataclass
class Result:
    """Of a suite: how many tests passed, which did not, and why some were not run."""

    suite: str
    what: str
    project: str
    version: str
    passed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """By reason."""
    left_out: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """To be written."""
        return asdict(self)


def run(suite: Suite, into: Path, *, quick: bool = False) -> Result:
    """All of it, or with `quick` without what dogpile marks as taking its time."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mv")))
        source = None if suite.source.is_installed else fetched(suite.source, into)
        needed = [fetched(one, into) / one.folder for one in suite.needs]
        folders = [HERE, *needed, *([source / suite.source.folder] if source else [])]
        report = scratch / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            str(HERE / "pytest.ini"),
            f"--junitxml={report}",
        ]
        command += ["-o", f"cache_dir={scratch / 'cache'}"]
        command += ["--rootdir", str(source or HERE), *(["-p", suite.plugin] if suite.plugin else [])]
        if quick:
            command += ["-m", "not time_intensive"]
        if suite.server == "redis":
            port = stack.enter_context(redis_server()).port
            command += [
                "--redis-url",
                f"redis://127.0.0.1:{port}/0",
                "--redis-mod-url",
                f"redis://127.0.0.1:{port}/0",
            ]
        for end in suite.left_out:
            command += ["--deselect", end]
        command += suite.options
        command += [test.format(source=source, needed=needed[0] if needed else "") for test in suite.tests]
        environment = stack.enter_context(_keepers(scratch))
        environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        done = subprocess.run(
            command, cwd=HERE, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
        result = Result(suite.name, suite.what, suite.source.project, suite.source.version, note=suite.note)
        result.left_out = dict(Counter(suite.left_out.values()))
        if not report.exists() or done.returncode not in (0, 1):
            result.failed.append(f"pytest ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
            return result
        _read(report, result)
        if result.failed:
            result.failed.append(done.stdout)
        return result


@contextmanager
def _keepers(scratch: Path) -> Iterator[dict[str, str]]:
    directory = scratch / "run"
    directory.mkdir(mode=0o700)
    yield {**os.environ, "MVOLATILE_RUNTIME_DIR": str(directory), "HOME": str(scratch)}
    end_keepers(directory)


def _read(report: Path, result: Result) -> None:
    skipped: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):  # pytest's own file
        outcome = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        if outcome is None:
            result.passed += 1
        elif outcome.tag == "skipped":
            skipped[(outcome.get("message") or "").removeprefix("Skipped: ")] += 1
        else:
            result.failed.append(f"{case.get('classname')}::{case.get('name')}")
    result.skipped = dict(skipped)
