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


def least_made(told: dict[str, int]) -> float:
    """Of values that are asked for at random, a cache that holds `held` of `keys` misses the rest."""
    return told["asked"] * (1 - min(1.0, told["held"] / told["keys"]))


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server")
def test_celery_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    pytest.importorskip("redis")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run("celery_main.py", tmp_path / "a", "none")["processes"] > 1
    told = run("celery_main.py", tmp_path / "b", "auto")
    assert told["processes"] == 1
    assert told["made"] <= least_made(told) * 1.15 + told["held"], told


def test_loky_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    pytest.importorskip("psutil")
    assert run("loky_main.py", tmp_path, "none")["processes"] > 2
    told = run("loky_main.py", tmp_path, "auto")
    assert told["processes"] == 2
    assert told["made"] <= least_made(told) * 1.15 + 2 * told["held"], told


def test_dask_pauses_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert run("dask_main.py", tmp_path, "none")["paused"] > 0
    told = run("dask_main.py", tmp_path, "auto")
    assert told["paused"] == 0
    assert told["finished"] == told["asked"]
    assert told["processes"] == 2
    assert told["made"] <= least_made(told) * 1.15 + 2 * told["held"], told


@pytest.mark.skipif(
    shutil.which("uwsgi", path=UWSGI) is None, reason="there is no uwsgi: make integrations builds it"
)
def test_uwsgi_replaces_no_worker(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run("uwsgi_main.py", tmp_path / "a", "none")["processes"] > 1
    told = run("uwsgi_main.py", tmp_path / "b", "auto")
    assert told["processes"] == 1
    assert told["made"] <= least_made(told) * 1.15 + told["held"], told


def test_django_q_replaces_no_worker(tmp_path: Path) -> None:
    pytest.importorskip("django_q")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run("django_q_main.py", tmp_path / "a", "none")["processes"] > 1
    told = run("django_q_main.py", tmp_path / "b", "auto")
    assert told["processes"] == 1
    assert told["made"] <= least_made(told) * 1.15 + told["held"], told
