"""The race of a mark and an unmark against reclaim: no wrong answer, either way. `make stress` has 100,000 rounds of
each; the ordinary tests a second of each.
"""

from __future__ import annotations

import json
import os

import pytest

from support.processes import run_python

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


def race(tier: str, nbytes: int, huge: bool, rounds: int, seconds: float, looking: bool) -> dict[str, int]:
    program = f"from support.racing import main; main({nbytes}, {huge}, {rounds}, {seconds}, {looking})"
    done = run_python(program, env={"MVOLATILE_TIER": tier}, timeout=seconds + 100)
    assert done.returncode == 0, f"{done}"
    counts: dict[str, int] = json.loads(done.stdout)["counts"]
    print(tier, nbytes, "huge" if huge else "base", counts)
    assert counts["reclaims"] > 10, "the other side raced as well"
    assert counts.get("losses"), f"nothing was ever lost, so nothing was tested: {counts}"
    return counts


@KINDS
@pytest.mark.parametrize("looking", [False, True], ids=["alone", "beside readers"])
def test_no_wrong_answer_for_a_second(tier: str, nbytes: int, huge: bool, looking: bool) -> None:
    race(tier, nbytes, huge, 1 << 30, 1, looking)


@pytest.mark.stress
@pytest.mark.skipif(not FULL, reason="`make stress` sets MVOLATILE_STRESS=full")
@pytest.mark.timeout(3600)
@KINDS
@pytest.mark.parametrize("looking", [False, True], ids=["alone", "beside readers"])
def test_no_wrong_answer_in_100_000_rounds(tier: str, nbytes: int, huge: bool, looking: bool) -> None:
    rounds = 100_000 if not looking else 20_000
    assert race(tier, nbytes, huge, rounds, 1500, looking)["rounds"] == rounds
