"""Many threads at once: no mixed data without an error, no deadlock (see `support.crowd`)."""

from __future__ import annotations

import json

import pytest

from support.processes import run_python


@pytest.mark.parametrize(
    ("tier", "nbytes", "huge"),
    [
        ("userfaultfd", 64 << 10, False),
        ("userfaultfd", 3 << 20, False),
        ("userfaultfd", 4 << 20, True),
        ("faultcount", 64 << 10, False),
        ("faultcount", 4 << 20, True),
    ],
)
def test_a_crowd_over_one_memory(tier: str, nbytes: int, huge: bool) -> None:
    program = f"from support.crowd import main; main({nbytes}, {huge}, 1.5)"
    done = run_python(program, env={"MVOLATILE_TIER": tier}, timeout=60)
    assert done.returncode == 0, f"{done}"
    counts = json.loads(done.stdout)["counts"]
    for what in ("peek whole", "read whole", "rebuilt"):
        assert counts.get(what), f"it never happened: {what}: {counts}"
    assert any(name.endswith("purged") for name in counts), counts
