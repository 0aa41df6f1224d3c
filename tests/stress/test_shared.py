"""The shared cache's long forms: 10 million operations among processes that die, and 10,000 workers killed at any
instruction. A part at a time::

    MVOLATILE_STRESS=full pytest -s -m stress -p no:xdist tests/stress/test_shared.py -k userfaultfd-readv

and so ``userfaultfd-message``, ``faultcount-readv``, ``faultcount-message``, and ``kills``.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import killing, truth
from support.keepers import end_keepers, entries

FULL = os.environ.get("MVOLATILE_STRESS") == "full"

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(
        not FULL, reason="MVOLATILE_STRESS=full runs 10 million operations, and kills 10,000 workers"
    ),
]


@pytest.fixture
def seed() -> int:
    """Another each time, and told."""
    seed = int(os.environ.get("MVOLATILE_SEED", time.time_ns() % 10**6))
    print(f"MVOLATILE_SEED={seed}")
    return seed


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of keepers, which end with the test."""
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        monkeypatch.setenv("MVOLATILE_RUNTIME_DIR", directory)
        monkeypatch.setenv("MVOLATILE_KEEPER_LOG", str(Path(directory, "log")))
        yield Path(directory)
        end_keepers(Path(directory))
        assert entries(Path(directory, "log")) == [], "a keeper met an error"


@pytest.mark.parametrize("way", ["readv", "message"])
@pytest.mark.parametrize("tier", ["userfaultfd", "faultcount"])
def test_ten_million_operations(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, seed: int, tier: str, way: str
) -> None:
    """A quarter of them in each way of reading."""
    monkeypatch.setenv("MVOLATILE_TIER", tier)
    monkeypatch.setenv("MVOLATILE_SHARED_READ", way)
    print(truth.run("truth", processes=4, operations=2_500_000, seed=seed, kill_each=10_000))


def test_ten_thousand_kills(runtime: Path, seed: int) -> None:
    print(killing.run("kills", kills=10_000, seed=seed))
