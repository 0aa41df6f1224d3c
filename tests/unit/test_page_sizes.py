"""Pages of 16 and 64 KiB, as on arm64 and ppc64le: the core is shown such pages (``tests/native/pages.c``), and its own
stress and the contract's tests run on them. What a fake cannot play: one touch holds a real page, so the core holds
by populating alone; raw addresses of this kernel's mappings are not aligned to larger pages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mvolatile import _core
from support.core_program import core_program
from support.paged import paged_package

ROOT = Path(__file__).resolve().parents[2]
SHORT = ["losses", "rebuild"]
WHOLE = [*SHORT, "pins", "peeks", "peeks_kept", "read_write", "purging", "pool", "isolation", "arrays"]

larger = pytest.mark.parametrize("page", [16 << 10, 64 << 10], ids=lambda page: f"{page >> 10}KiB")
tiers = pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])


@larger
@tiers
@pytest.mark.parametrize("kind", ["small", "two-words", "large", "huge"])
def test_the_protocol_against_an_oracle(page: int, tier: str, kind: str) -> None:
    pages, huge, rounds = {
        "small": (9, 0, 300),
        "two-words": (70, 0, 100),
        "large": ((4 << 20) // page, 0, 60),
        "huge": ((8 << 20) // page, 1, 30),
    }[kind]
    program = core_program("protocol", sanitize="address,undefined", page=page)
    arguments = [tier, *map(str, (pages, huge, 1, rounds))]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=200)
    if done.returncode == 3:
        pytest.skip(f"the tier {tier} cannot be had here")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page", [pytest.param(16 << 10, id="16KiB", marks=pytest.mark.slow), pytest.param(64 << 10, id="64KiB")]
)
@tiers
@pytest.mark.parametrize(
    "files", [pytest.param(SHORT, id="short"), pytest.param(WHOLE, id="whole", marks=pytest.mark.stress)]
)
def test_the_contract(page: int, tier: str, files: list[str]) -> None:
    package = paged_package(page)
    env = {**os.environ, "PYTHONPATH": str(package), "MVOLATILE_TIER": tier}
    told = subprocess.run(
        [sys.executable, "-c", "from mvolatile import _core; print(_core.sizes()[0])"],
        env=env,
        capture_output=True,
        text=True,
    )
    if "UnsupportedError" in told.stderr:
        pytest.skip(f"the tier {tier} cannot be had here")
    assert told.stdout == f"{page}\n", f"the pages are not larger than the kernel's: {told}"
    paths = [f"tests/unit/contract/test_{name}.py" for name in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"{tier} and not many"]
    done = subprocess.run(
        [*command, *paths], cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "passed" in done.stdout


def test_the_pages_of_this_machine() -> None:
    """The core's page is the kernel's: nothing of the fake is in what is installed."""
    assert _core.sizes()[0] == os.sysconf("SC_PAGESIZE")
