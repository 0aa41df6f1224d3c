"""Software that recycles processes for their RSS, at stock settings: a full cache trips it, but not where it is found.

Each runs twice: with the limit put off, where its recycler must act, since else the second run would show nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mvolatile import _core

HERE = Path(__file__).parent / "recycled"
UWSGI = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
"""Beside this Python: a virtual environment need not be activated."""

pytestmark = [
    pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here"),
    pytest.mark.slow,
    pytest.mark.xdist_group("recyclers"),
]


def run(program: str, tmp_path: Path, limit: str) -> dict[str, int]:
    """What the program printed last: one JSON object."""
    tmp_path.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "MVOLATILE_RESIDENT_LIMIT": limit},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def both(program: str, tmp_path: Path, workers: int = 1) -> tuple[dict[str, int], dict[str, int]]:
    """With the limit put off, and as it is found. There no value was made that one of so many caches would have had: of
    values that are asked for at random, one that holds `held` of `keys` misses the rest.
    """
    off, found = (run(program, tmp_path / limit, limit) for limit in ("none", "auto"))
    least = found["asked"] * (1 - min(1.0, found["held"] / found["keys"]))
    assert found["made"] <= least * 1.15 + workers * found["held"], found
    return off, found


def replaces_no_worker(program: str, tmp_path: Path, workers: int = 1) -> None:
    off, found = both(program, tmp_path, workers)
    assert off["processes"] > workers
    assert found["processes"] == workers


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")
def test_celery_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    pytest.importorskip("redis")
    replaces_no_worker("celery_main.py", tmp_path)


def test_loky_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    pytest.importorskip("psutil")
    replaces_no_worker("loky_main.py", tmp_path, workers=2)


def test_dask_pauses_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    off, found = both("dask_main.py", tmp_path, workers=2)
    assert off["paused"] > 0
    assert found["paused"] == 0
    assert found["finished"] == found["asked"]
    assert found["processes"] == 2


@pytest.mark.skipif(
    shutil.which("uwsgi", path=UWSGI) is None, reason="there is no uwsgi: make integrations builds it"
)
def test_uwsgi_replaces_no_worker(tmp_path: Path) -> None:
    replaces_no_worker("uwsgi_main.py", tmp_path)


def test_django_q_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("django_q")
    replaces_no_worker("django_q_main.py", tmp_path)
