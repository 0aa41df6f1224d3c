"""The answers are right in every tier: this directory's other tests run again in each that is not the usual one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = ["test_mapping.py", "test_values.py", "test_loss.py", "test_ttl.py"]


@pytest.mark.skipif("MVOLATILE_TIER" in os.environ, reason="a tier is forced already")
@pytest.mark.parametrize("tier", [pytest.param("faultcount", marks=pytest.mark.slow), "unsupported"])
def test_in_another_tier(tier: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-W", "ignore::mvolatile.errors.UnsupportedKernelWarning"),
            *(HERE / name for name in TESTS),
        ],
        cwd=HERE.parents[2],
        env={**os.environ, "MVOLATILE_TIER": tier},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
