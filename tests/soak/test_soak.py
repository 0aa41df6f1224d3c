"""The soak's short form: about a minute. `make soak` runs it for an hour, or as long as wanted."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from mvolatile import VolatileMemory
from soak.__main__ import main
from soak.run import soak
from soak.tally import Tally, Wrong
from soak.worker import check_leaks, settle
from soak.works import ArrayWork, CacheWork, RawWork

SECONDS = 45


@pytest.mark.slow
@pytest.mark.usefixtures("needs_cgroup")
def test_a_minute_of_it() -> None:
    seed = int(os.environ.get("MVOLATILE_SEED", time.time_ns() % 10**6))
    wanted = {"cache hits", "arrays whole", "arrays lost", "raw ranges whole", "forks", "processes misused"}
    wanted |= {"workers ended: kill"}
    counts: Counter[str] = Counter()
    while missing := [name for name in wanted if not counts[name]]:  # a slow machine needs more than the one
        print(f"nothing was counted as {missing} yet")
        report = soak(SECONDS, 4, seed, swap=False)  # a swap device would be the whole machine's: `make soak`
        assert not report.failures, f"MVOLATILE_SEED={seed}: {report.failures}"
        counts += report.counts
        seed += 1


def test_wrong_bytes_are_seen(tmp_path: Path) -> None:
    """Each oracle, with a byte changed behind its back."""
    row, source = Tally(tmp_path / "tally", create=True).row(0), random.Random(1)
    raw = RawWork(1)
    raw._stamps[0][3], raw._bytes[0][3] = 7, 8
    with pytest.raises(Wrong, match="page 3"):
        raw._unmark(0, 0, RawWork.PAGES, row)
    arrays = ArrayWork((64 << 10,))
    (one,) = arrays._arrays
    with one.array.pin(write=True) as view:
        view[100] = 0
        del view
    with pytest.raises(Wrong, match="1 zeros"):
        one.version_of(one.array.read(), "read", 1, 1)
    arrays.close()
    cache = CacheWork(1, None)
    cache._cache[0] = cache._make(0, 5)
    with pytest.raises(Wrong, match="has version 5"):
        for _ in range(10_000):
            cache.step(source, 0, row)
            cache._cache[0] = cache._make(0, 5)
    cache.close()


def test_leaks_are_seen() -> None:
    VolatileMemory(1).close()  # the first of a process opens what the process keeps
    before = settle()
    with Path("/dev/null").open("rb"), VolatileMemory(5000):
        with pytest.raises(Wrong, match=r"descriptors of /dev/null.*nbytes"):
            check_leaks(before, settle())
    check_leaks(before, settle())


@pytest.mark.slow
@pytest.mark.usefixtures("needs_cgroup")
def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "0.05", "--processes", "2", "--no-swap", "--json"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["processes"] == 2
