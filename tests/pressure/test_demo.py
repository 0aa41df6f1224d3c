"""The demo in small, under a real limit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.usefixtures("needs_cgroup")
def test_volatile_memory_serves_all_where_the_others_die_or_decode(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mvolatile", "demo", "--quick", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["enforced_by"] == "memory cgroup"
    assert report["kept_bytes"] > report["limit"]
    rows = {row["name"]: row for row in report["outcomes"]}
    assert list(rows) == ["dict", "lru-large", "lru-small", "volatile"]
    assert [row["wrong"] for row in rows.values()] == [0, 0, 0, 0]

    assert rows["volatile"]["said"] is None
    assert rows["dict"]["end"] == "killed"
    assert rows["dict"]["requests"] < report["neighbour_requests"][0]
    assert rows["lru-large"]["end"] == "killed"
    assert rows["lru-large"]["requests"] >= report["neighbour_requests"][0]

    small, volatile = rows["lru-small"], rows["volatile"]
    assert small["end"] == volatile["end"] == "served"
    assert small["requests"] == volatile["requests"] == report["requests"]
    assert volatile["rebuilt"] > 0
    # The kernel lets through what it cannot refuse (allocations that must not fail, from inside reclaim): some pages.
    assert volatile["peak_bytes"] <= report["limit"] + MIB
    assert volatile["hit_rate"] > small["hit_rate"] + 0.2

    assert gave_way_and_grew_back(report, volatile["samples"])
    assert {path.name for path in tmp_path.iterdir()} == {"demo.png", "demo.svg"}


@pytest.mark.usefixtures("needs_cgroup")
@pytest.mark.slow
def test_what_workers_share_is_decoded_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mvolatile", "demo", "--quick", "--workers", "4", "--json"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert (report["enforced_by"], report["workers"]) == ("memory cgroup", 4)
    private, shared = report["outcomes"]
    assert (private["name"], shared["name"]) == ("private", "shared")
    for row in (private, shared):
        assert (row["end"], row["wrong"], row["said"]) == ("served", 0, None)
        assert row["requests"] == report["requests"]
        assert row["peak_bytes"] <= report["limit"] + MIB
        assert gave_way_and_grew_back(report, row["samples"])
    assert shared["hit_rate"] > private["hit_rate"] + 0.1
    assert {path.name for path in tmp_path.iterdir()} == {"demo_workers.png", "demo_workers.svg"}


def gave_way_and_grew_back(report: dict[str, Any], samples: list[dict[str, Any]]) -> bool:
    arrives, gone = report["neighbour_requests"]
    before = max(s["cache_bytes"] for s in samples if s["requests"] <= arrives)
    during = min(s["cache_bytes"] for s in samples if arrives < s["requests"] < gone)
    after = max(s["cache_bytes"] for s in samples if s["requests"] > gone)
    return during < before - 10 * MIB and after > during + 10 * MIB
