"""Workers of a real cluster that have one shared cache: processes under nannies, killed and started again."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dask", reason="make integrations installs it")
pytest.importorskip("distributed", reason="make integrations installs it")

from integrations.computing.cluster_main import SCENARIOS
from mvolatile.integrations.dask import SharedCachePlugin, shared_cache
from support.keepers import end_keepers, entries, keeper_pid

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def failed() -> Iterator[dict[str, str]]:
    """What did not hold, by name."""
    with tempfile.TemporaryDirectory(prefix="mv") as directory:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "MVOLATILE_RUNTIME_DIR": directory,
            "MVOLATILE_KEEPER_LOG": f"{directory}/log",
        }
        try:
            done = subprocess.run(
                [sys.executable, str(HERE / "computing" / "cluster_main.py"), directory],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=250,
            )
        finally:
            end_keepers(Path(directory))
        assert done.returncode == 0, done.stdout + done.stderr
        yield json.loads(done.stdout.splitlines()[-1])
        assert entries(Path(directory, "log")) == [], "a keeper met an error"


@pytest.mark.slow
@pytest.mark.xdist_group("dask cluster")
@pytest.mark.parametrize("what", [scenario.__name__ for scenario in SCENARIOS])
def test_in_a_cluster(failed: dict[str, str], what: str) -> None:
    assert what not in failed, failed[what]


def test_outside_of_a_task() -> None:
    with pytest.raises(RuntimeError, match="for tasks"):
        shared_cache()
    with pytest.raises(ValueError, match="1 to 64 letters"):
        SharedCachePlugin("a/b")


def test_it_pickles_by_name(runtime: Path) -> None:
    plugin = SharedCachePlugin(max_bytes=1 << 20)
    again: Any = pickle.loads(pickle.dumps(plugin))
    assert (again.name, again.cache_name) == (plugin.name, plugin.cache_name)
    assert again.cache is None
    assert SharedCachePlugin().name != plugin.name
    assert keeper_pid(plugin.cache_name) is None, "nobody has asked for it yet"


class Worker:
    """What of one a plugin looks at."""

    def __init__(self, number: str) -> None:
        self.id = number


def test_several_workers_of_one_process(runtime: Path) -> None:
    plugin = SharedCachePlugin()
    one, two = Worker("1"), Worker("2")
    plugin.setup(one)
    plugin.setup(two)
    cache = plugin.cache
    assert cache is not None
    cache["k"] = 1
    plugin.teardown(one)
    plugin.teardown(one)
    assert cache["k"] == 1
    plugin.teardown(two)
    assert cache.closed
    plugin.setup(one)
    assert plugin.cache is not None
    assert plugin.cache["k"] == 1, "it was the keeper's all the time"
    plugin.teardown(one)
