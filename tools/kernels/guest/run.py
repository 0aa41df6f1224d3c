"""Runs the tests of one cell and writes what happened, a line of JSON each: inside the virtual machine, and on the
running kernel too.

It is alone there: it may import pytest, hypothesis, mvolatile and the standard library. The conditions come in the
environment, as CELL_ and their names in matrix.py.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import IO

import pytest

SHORT = (
    "tests/unit/contract",
    "tests/unit/containers",
    "tests/unit/facts",
    "tests/unit/kernel",
    "tests/unit/trap/test_raw_touch.py",
    "tests/unit/cli/test_trim.py",
    "tests/pressure/test_lowered_limit.py",
)
"""The short form: what the library promises, what it relies on, how it reads the kernel; and lowered limits."""

QUICK = (
    "tests/unit/contract/test_losses.py",
    "tests/unit/contract/test_pins.py",
    "tests/unit/contract/test_purging.py",
    "tests/unit/contract/test_raw_marks.py",
    "tests/unit/contract/test_rebuild.py",
    "tests/unit/facts/test_lazy_free.py",
    "tests/unit/facts/test_userfaultfd.py",
)
"""What is run before every change lands: the kernel's facts, and what says that no loss is missed or made up."""

TOO_LONG = (
    "test_a_hundred_thousand_live_ranges",
    "test_threads_open_and_close",
    "test_a_psi_trigger_of_the_machine",
    "TestEarlierHandlers",
)
"""Functions and classes that take minutes under emulation. The PSI trigger waits for a disk, and there is none; the
order of signal handlers is the library's own and the same on all kernels.
"""

SECONDS = 900
"""For one test: several times what the slowest takes under emulation on an idle machine, for this one may be busy."""

EXAMPLES = 20
"""Of a property, under emulation; a test that asks for a number of its own gets that."""

MOST_FAILURES = 20
"""When one cause fails everything, the tracebacks take longer than the tests."""


class Reporter:
    """A pytest plugin: keeps to the tests of this process's tier, and tells each outcome as it comes."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def tell(self, **fields: object) -> None:
        """Write one line."""
        print(json.dumps(fields), file=self._out, flush=True)

    def pytest_configure(self) -> None:
        """Nothing may be written beside the tests, and under emulation everything is slow."""
        import hypothesis  # not before pytest, which wants to see it imported

        slow = [hypothesis.HealthCheck.too_slow]
        emulated = "CELL_RESULTS" not in os.environ
        examples = EXAMPLES if emulated else hypothesis.settings().max_examples
        hypothesis.settings.register_profile(
            "cell", database=None, deadline=None, max_examples=examples, suppress_health_check=slow
        )
        hypothesis.settings.load_profile("cell")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """The contract's tests are collected once for each tier; the other tiers have cells of their own."""
        tier = os.environ["MVOLATILE_TIER"]
        emulated = "CELL_RESULTS" not in os.environ
        kept: list[pytest.Item] = []
        left: list[pytest.Item] = []
        for item in items:
            callspec = getattr(item, "callspec", None)
            wanted = callspec.params.get("tier", tier) if callspec else tier
            names = {name.partition("[")[0] for name in item.nodeid.split("::")}
            fits = wanted == tier and not (emulated and names & set(TOO_LONG))
            (kept if fits else left).append(item)
        if left:  # as pytest does itself: who is told of none may be surprised
            config.hook.pytest_deselected(items=left)
        items[:] = kept
        self.tell(collected=len(kept))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line per test, and one more for a set-up or tear-down that fails."""
        if report.when == "call" or report.outcome != "passed":
            reason = ""
            if report.skipped and isinstance(report.longrepr, tuple):
                reason = report.longrepr[2].removeprefix("Skipped: ")
            elif report.failed:
                # What Hypothesis says of itself (the seed, above all) stands in a section of its own.
                told = [text for title, text in report.sections if title == "Hypothesis"]
                reason = "\n".join([*told, report.longreprtext])[-4000:]
            self.tell(
                test=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), reason=reason
            )


def observed() -> dict[str, str]:
    """The conditions as they really are, read back from the kernel."""
    import mvolatile

    found = mvolatile.features()
    swaps = Path("/proc/swaps").read_text().splitlines()[1:]
    return {
        "cgroup": f"v{found.cgroup_version}" if found.cgroup_version else "none",
        "swap": "zram" if any("zram" in line for line in swaps) else "other" if swaps else "none",
        "mglru": "on" if found.mglru else "off",
        "thp": str(found.thp),
        "tier": found.tier,
        "user": "root" if os.geteuid() == 0 else "user",
    }


def main() -> int:
    """Become the cell's user, check the conditions, run the tests."""
    results = os.environ.get("CELL_RESULTS", "/dev/ttyS1")
    if os.environ["CELL_USER"] == "user" and os.geteuid() == 0:
        os.chown(results, 1000, 1000)
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)
        # As login does. A process that has changed its user and goes on may not read its own /proc/self/pagemap.
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.chdir(Path(__file__).parent)
    with open(results, "w", buffering=1) as out:
        reporter = Reporter(out)
        conditions = observed()
        reporter.tell(kernel=platform.release(), version=platform.version(), observed=conditions)
        wrong = {
            name: value
            for name, value in conditions.items()
            if os.environ.get(f"CELL_{name.upper()}", value) != value
        }
        if wrong:
            reporter.tell(error=f"not as asked: {wrong}")
            return 0
        began = time.monotonic()
        arguments = [
            "-q",
            "--color=no",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            f"--timeout={SECONDS}",
        ]
        wanted = os.environ.get("CELL_TESTS", "short")
        paths = {"short": SHORT, "quick": QUICK}.get(wanted) or wanted.split(",")
        code = pytest.main([*arguments, f"--maxfail={MOST_FAILURES}", *paths], plugins=[reporter])
        reporter.tell(done=int(code), seconds=round(time.monotonic() - began, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
