"""No wrong value of a shared cache, whoever dies: `support.truth` at length."""

from __future__ import annotations

import os
import tempfile

import pytest

from support.truth import run

FULL = os.environ.get("MVOLATILE_STRESS") == "full"


@pytest.mark.stress
@pytest.mark.parametrize("way", ["readv", "message"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
@pytest.mark.parametrize("seed", range(20 if FULL else 2))
def test_no_wrong_value(monkeypatch: pytest.MonkeyPatch, tier: str, way: str, seed: int) -> None:
    monkeypatch.setenv("MVOLATILE_TIER", tier)
    monkeypatch.setenv("MVOLATILE_SHARED_READ", way)
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", directory)
        run("truth", workers=4, operations=32_000 if FULL else 3000, seed=seed, kill_every=0.2)
