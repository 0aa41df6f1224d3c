"""The contract's tests, once in every tier.

A process has one tier for life. So a test that takes part (it lies in a directory whose conftest imports this
module's hooks) is collected once for each tier; those of this process's tier run here, the others in one child
pytest per tier that is started when the first of them is due and tells how each went. Nothing is skipped for
being of another tier. Workers of pytest-xdist do the same, each other tier in one of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import IO

import pytest

from mvolatile import _core
from mvolatile.errors import UnsupportedError

__all__ = [
    "TIERS",
    "exact",
    "loses",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_itemcollected",
    "pytest_pyfunc_call",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "tier",
]

TIERS = ("userfaultfd", "faultcount", "unsupported")

loses = pytest.mark.tiers("userfaultfd", "faultcount")
"""For a test of losses: there are none where nothing is purged."""

exact = pytest.mark.tiers("userfaultfd")
"""For a test of what only the trap gives."""

_PIPE = "MVOLATILE_TEST_REPORTS"
"""In a child: the descriptor that reports go to."""


def _own_tier() -> str:
    return os.environ.get("MVOLATILE_TIER") or _core.tier()


_NODEID = pytest.StashKey[str]()
"""Of the tests of directories that take these hooks; others have a parameter of that name for themselves. As it was
collected, and as the children know it: pytest-xdist writes the group behind it.
"""


def _tier_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("tier") if callspec else None


@pytest.fixture(scope="session", autouse=True)
def tier(request: pytest.FixtureRequest) -> str:
    """The tier that the test runs in; skips where this machine does not have it."""
    if request.param == _own_tier():
        try:
            _core.tier()
        except UnsupportedError as error:
            pytest.skip(str(error))
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("tiers")
    metafunc.parametrize("tier", marker.args if marker else TIERS, indirect=True, scope="session")


def pytest_itemcollected(item: pytest.Item) -> None:
    item.stash[_NODEID] = item.nodeid
    tier = _tier_of(item)
    if tier != _own_tier():
        item.add_marker(pytest.mark.xdist_group(f"tier {tier}"))
    if tier == "unsupported":
        item.add_marker(pytest.mark.filterwarnings("ignore::mvolatile.UnsupportedKernelWarning"))


# ---- the parent's side


class Child:
    """A pytest that runs the tests of one tier, and what it has reported up to now."""

    def __init__(self, tier: str, nodeids: list[str], config: pytest.Config) -> None:
        self.tier = tier
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives until end()
        reading, writing = os.pipe()
        self._pipe = os.fdopen(reading)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *nodeids],
            cwd=config.rootpath,
            env={**os.environ, "MVOLATILE_TIER": tier, _PIPE: str(writing)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
        )
        os.close(writing)

    def _read_one(self) -> bool:
        line = self._pipe.readline()
        if not line:
            return False
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=json.loads(line))
        self._reports.setdefault(report.nodeid, []).append(report)
        return True

    def reports(self, nodeid: str) -> list[pytest.TestReport]:
        """Those of setup, call and teardown; waits for them."""
        while not (found := self._reports.get(nodeid)) or found[-1].when != "teardown":
            if not self._read_one():
                code = self._process.wait()
                self._output.seek(0)
                said = self._output.read().decode(errors="replace")[-4000:]
                pytest.fail(
                    f"the tests of the tier {self.tier} ended with {code} here:\n{said}", pytrace=False
                )
        return found

    def end(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.wait()
        self._output.close()


_children: dict[str, Child] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the fixtures, which look for descriptors left open."""
    wanted = _tier_of(item)
    if wanted is not None and wanted != _own_tier() and wanted not in _children:
        nodeids = [
            other.stash[_NODEID]
            for other in item.session.items
            if _NODEID in other.stash and _tier_of(other) == wanted
        ]
        _children[wanted] = Child(wanted, nodeids, item.config)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    wanted = _tier_of(pyfuncitem)
    if wanted is None or wanted == _own_tier():
        return None
    for report in _children[wanted].reports(pyfuncitem.stash[_NODEID]):
        if report.skipped:
            assert isinstance(report.longrepr, tuple | list), "a path, a line, and the reason"
            pytest.skip(str(report.longrepr[2]).removeprefix("Skipped: "))
        if report.failed:
            sections = "".join(f"\n--- {title}\n{text}" for title, text in report.sections)
            pytest.fail(f"in {report.when}:\n{report.longreprtext}{sections}", pytrace=False)
    return True


def pytest_sessionfinish() -> None:
    while _children:
        _children.popitem()[1].end()


# ---- the child's side


class _Reporter:
    """Sends every report to the parent."""

    def __init__(self, config: pytest.Config, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._config = config
        self._pipe = os.fdopen(descriptor, "w")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        print(json.dumps(data), file=self._pipe, flush=True)

    def pytest_unconfigure(self) -> None:
        self._pipe.close()


def pytest_configure(config: pytest.Config) -> None:
    descriptor = os.environ.pop(_PIPE, None)
    if descriptor is not None:
        config.pluginmanager.register(_Reporter(config, int(descriptor)))
