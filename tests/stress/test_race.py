"""The race of a mark and an unmark against reclaim: no wrong answer, either way. `make stress` has 100,000 rounds of
each, the ordinary tests some hundred.
"""

from __future__ import annotations

import json
import os

import pytest

from support.processes import LONGEST, run_python

FULL = os.environ.get("MVOLATILE_STRESS") == "full"
KINDS = pytest.mark.parametrize(
    ("tier", "nbytes", "huge"),
    [
        ("userfaultfd", 256 << 10, False),
        ("userfaultfd", 3 << 20, False),
        ("userfaultfd", 2 << 20, True),
        ("faultcount", 256 << 10, False),
        ("faultcount", 2 << 20, True),
    ],
)


def race(tier: str, nbytes: int, huge: bool, rounds: int, looking: bool, longest: float) -> None:
    program = f"from support.racing import main; main({nbytes}, {huge}, {rounds}, {looking}, {longest - 10})"
    done = run_python(program, env={"MVOLATILE_TIER": tier}, timeout=longest).check()
    print(tier, nbytes, "huge" if huge else "base", json.loads(done.stdout)["counts"])


@KINDS
@pytest.mark.parametrize(
    "looking",
    [pytest.param(False, id="alone"), pytest.param(True, id="beside readers", marks=pytest.mark.slow)],
)
def test_no_wrong_answer_in_some_hundred_rounds(tier: str, nbytes: int, huge: bool, looking: bool) -> None:
    race(tier, nbytes, huge, max(300, (256 << 20) // nbytes), looking, LONGEST)


@pytest.mark.stress
@pytest.mark.skipif(not FULL, reason="`make stress` sets MVOLATILE_STRESS=full")
@pytest.mark.timeout(3600)
@KINDS
@pytest.mark.parametrize("looking", [False, True], ids=["alone", "beside readers"])
def test_no_wrong_answer_in_100_000_rounds(tier: str, nbytes: int, huge: bool, looking: bool) -> None:
    race(tier, nbytes, huge, 20_000 if looking else 100_000, looking, 3500)
