"""15: workers that are killed at any instruction leave nothing; the long form is in `tests/stress`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.killing import run


@pytest.mark.room_counted
@pytest.mark.parametrize("way", ["readv", "message"])
def test_killed_at_any_instruction(runtime: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("MVOLATILE_SHARED_READ", way)
    told = run("kills", kills=40, seed=1)
    assert told.read_meanwhile > 10
