"""Many threads at once: no mixed data without an error, no deadlock (see `support.crowd`)."""

from __future__ import annotations

import pytest

from support.processes import run_python


@pytest.mark.parametrize(
    ("tier", "nbytes", "huge", "turns"),
    [
        ("userfaultfd", 64 << 10, False, 1000),
        ("userfaultfd", 3 << 20, False, 100),
        ("userfaultfd", 4 << 20, True, 100),
        ("faultcount", 64 << 10, False, 1000),
        ("faultcount", 4 << 20, True, 100),
    ],
)
def test_a_crowd_over_one_memory(tier: str, nbytes: int, huge: bool, turns: int) -> None:
    """Until each thread had its turns, something was read whole, lost and rebuilt."""
    program = f"from support.crowd import main; main({nbytes}, {huge}, {turns})"
    run_python(program, env={"MVOLATILE_TIER": tier}).check()
