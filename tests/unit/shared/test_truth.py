"""No wrong value, whatever dies; the long form is in `tests/stress`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvolatile.shared.place import Place
from support.keepers import is_free, until
from support.truth import run


@pytest.mark.parametrize("way", ["readv", "message"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_no_wrong_value(runtime: Path, monkeypatch: pytest.MonkeyPatch, tier: str, way: str) -> None:
    monkeypatch.setenv("MVOLATILE_TIER", tier)
    monkeypatch.setenv("MVOLATILE_SHARED_READ", way)
    told = run("truth", processes=4, operations=10_000, seed=1, kill_each=700)
    assert told.hits
    assert told.keepers_killed
    assert told.workers_killed
    until(lambda: is_free(Place("truth").path("lock")))  # it lingers, and leaves nothing
