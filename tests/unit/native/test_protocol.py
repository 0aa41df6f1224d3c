"""The protocol without Python, built with AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import subprocess

import pytest

from support.core_program import core_program

SANITIZERS = "address,undefined"


@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize(
    ("pages", "huge", "rounds"),
    [
        pytest.param(9, 0, 1200, id="small"),
        pytest.param(70, 0, 800, id="two-words"),
        pytest.param(600, 0, 300, id="large"),
        pytest.param(1024, 1, 200, id="huge"),
    ],
)
def test_against_an_oracle(tier: str, pages: int, huge: int, rounds: int) -> None:
    program = core_program("protocol", sanitize=SANITIZERS)
    stress = os.environ.get("MVOLATILE_STRESS") == "full"
    for seed in range(1, 200 if stress else 2):
        done = subprocess.run(
            [program, tier, str(pages), str(huge), str(seed), str(rounds)],
            capture_output=True,
            text=True,
            timeout=200,
        )
        if done.returncode == 3:
            pytest.skip(f"the tier {tier} cannot be had here")
        assert done.returncode == 0, f"{seed=}: {done.stderr}"
