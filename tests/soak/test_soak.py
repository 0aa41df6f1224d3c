"""The soak's short form: about a minute. `make soak` runs it for an hour, or as long as wanted."""

from __future__ import annotations

import os
import time

import pytest

from soak.run import soak

SECONDS = 45


@pytest.mark.usefixtures("needs_cgroup")
def test_a_minute_of_it() -> None:
    seed = int(os.environ.get("MVOLATILE_SEED", time.time_ns() % 10**6))
    report = soak(SECONDS, 4, seed)
    assert not report.failures, f"MVOLATILE_SEED={seed}: {report.failures}"
    for name in (
        "cache hits",
        "arrays whole",
        "arrays lost",
        "raw ranges whole",
        "forks",
        "workers ended: kill",
    ):
        assert report.counts[name], f"nothing was counted as {name!r}, so little was tested: {report.counts}"
