"""The caches among Prometheus' metrics: of one process, and of all workers of a real gunicorn, recycled ones too."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="make integrations installs it")

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from mvolatile import VolatileCache
from mvolatile.cache.engine import engine_of
from mvolatile.integrations.prometheus import register
from support.asking import ask
from support.keepers import end_keepers, until
from support.processes import LONGEST, run_python

APPLICATION = """
import os
import struct
import mvolatile as mv
from mvolatile.integrations.prometheus import register
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

register()
tiles, pages = mv.VolatileCache(name="tiles"), mv.SharedCache("pages")


def application(environ, start_response):
    what = environ["PATH_INFO"][1:]
    if what == "metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        try:
            body = generate_latest(registry)
        except struct.error:  # prometheus_client met a file that another worker has made and not filled: scrape again
            body = b""
    elif what:
        tiles.get_or_set(what, lambda: b"x" * 1000)
        pages.get_or_set(what, lambda: b"y" * 1000)
        body = b"done"
    else:
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
HOOKS = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""
WORKERS = 4


def test_one_process() -> None:
    registry = CollectorRegistry()
    register(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        register(registry)
    with VolatileCache[int, bytes](name="scraped") as cache:
        own = {"cache": "scraped", "kind": "volatile"}
        cache.get_or_set(1, lambda: b"x" * 100)
        assert cache[1]
        engine_of(cache).change(engine_of(cache).store.seal_all)
        cache.purge()
        cache.cache_info()
        sample = registry.get_sample_value
        assert sample("mvolatile_cache_requests_total", {**own, "result": "hit"}) == 1
        assert sample("mvolatile_cache_requests_total", {**own, "result": "miss"}) == 1
        assert sample("mvolatile_cache_departures_total", {**own, "reason": "lost"}) == 1
        assert sample("mvolatile_cache_lost_age_seconds_count", own) == 1
        assert sample("mvolatile_cache_entries", own) == 0
    assert registry.get_sample_value("mvolatile_cache_entries", own) is None


def test_what_a_keeper_knows_is_not_added_up(runtime: Path, tmp_path: Path) -> None:
    """Of one process, and in files: what two clients tell of one cache is told once."""

    def child(seen: str) -> None:
        import os

        from prometheus_client import CollectorRegistry, multiprocess

        from mvolatile import SharedCache
        from mvolatile.integrations.prometheus import Publisher, register

        registry = CollectorRegistry()
        register(registry)
        if several := "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            publisher = Publisher()
        cache: SharedCache[int, bytes] = SharedCache("kept", max_bytes=1 << 20)
        for key in range(20 if seen == "first" else 0):
            cache.get_or_set(key, lambda: b"x" * 100_000)
        assert cache.get(-1) is None
        if seen == "first":
            cache.purge(300_000)
        if several:
            publisher.publish()
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        own, info = {"cache": "kept", "kind": "shared"}, cache.cache_info()
        assert info.evicted > 5
        assert info.purged > 0
        sample, name = registry.get_sample_value, "mvolatile_shared_cache"
        assert sample(f"{name}_stores", own) == info.stores == 20
        assert sample(f"{name}_departures", {**own, "reason": "evicted"}) == info.evicted
        assert sample(f"{name}_departures", {**own, "reason": "lost"}) == info.purged
        assert sample(f"{name}_lost_ages", {**own, "at_most": "+Inf"}) == info.purged
        assert sample(f"{name}_entries", own) == info.currsize
        misses = sample("mvolatile_cache_requests_total", {**own, "result": "miss"})
        assert misses == (22 if seen == "second" and several else 21 if seen == "first" else 1)
        assert sample("mvolatile_cache_stores_total", own) is None

    for env in ({}, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}):
        for seen in ("first", "second"):
            try:
                run_python(child, seen, env={"MVOLATILE_RUNTIME_DIR": str(runtime), **env}).check()
            finally:
                if seen == "second":
                    end_keepers(runtime)


def test_openmetrics_are_told_units() -> None:
    registry = CollectorRegistry()
    register(registry)
    text = openmetrics(registry).decode()
    units = dict(re.findall(r"# UNIT mvolatile_(\w+) (\w+)", text))
    assert units == {
        **{f"cache_{what}_seconds": "seconds" for what in ("saved", "spent", "lost", "rebuild", "lost_age")},
        **{
            f"{whose}cache_{what}bytes": "bytes"
            for whose in ("", "shared_")
            for what in ("", "resident_", "pinned_")
        },
        "shared_cache_lost_seconds": "seconds",
    }


def test_a_forked_child_tells_only_its_own(tmp_path: Path) -> None:
    def child() -> None:
        import os

        from prometheus_client import CollectorRegistry, multiprocess

        from mvolatile import VolatileCache
        from mvolatile.integrations.prometheus import Publisher

        cache: VolatileCache[int, bytes] = VolatileCache(name="t")
        publisher = Publisher()
        cache.get_or_set(1, lambda: b"x")
        pid = os.fork()
        if not pid:
            cache.get_or_set(2, lambda: b"x")
            publisher.publish()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for _ in range(2):
            publisher.publish()
        cache.get_or_set(3, lambda: b"x")
        cache.clear()  # nobody was told of the last
        publisher.publish()
        cache.get_or_set(1, lambda: b"x")
        publisher.publish()
        cache.close()
        publisher.publish()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        own = {"cache": "t", "kind": "volatile"}
        assert registry.get_sample_value("mvolatile_cache_stores_total", own) == 4
        print(registry.get_sample_value("mvolatile_cache_requests_total", {**own, "result": "miss"}))

    done = run_python(child, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}).check()
    assert done.stdout == "4.0\n"


@contextmanager
def gunicorn(directory: Path, runtime: Path) -> Iterator[subprocess.Popen[str]]:
    (directory / "watched.py").write_text(APPLICATION)
    (directory / "hooks.py").write_text(HOOKS)
    (directory / "counts").mkdir()
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "gunicorn",
                "--workers",
                str(WORKERS),
                "--log-level",
                "error",
                "--config",
                "hooks.py",
            ),
            *("--bind", f"unix:{directory / 'socket'}", "watched:application"),
        ],
        cwd=directory,
        env={
            **os.environ,
            "HOME": str(directory),
            "MVOLATILE_RUNTIME_DIR": str(runtime),
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "counts"),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == 0, said


def test_a_scrape_tells_the_sum_over_all_workers(runtime: Path, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="make integrations installs it")
    socket = tmp_path / "socket"

    def workers() -> set[int]:
        return set(map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()))

    def answers() -> bool:
        try:
            return bool(ask(socket, "/"))
        except OSError:
            return False

    def sums() -> dict[str, float]:
        text = ask(socket, "/metrics")[0].decode()
        found: dict[str, float] = {}
        for cache, kind, value in re.findall(
            r'mvolatile_cache_requests_total\{cache="(\w+)",kind="(\w+)",result="\w+"\} (\S+)', text
        ):
            found[f"{kind} {cache}"] = found.get(f"{kind} {cache}", 0) + float(value)
        gauge = re.findall(r'mvolatile_shared_cache_entries\{cache="pages",kind="shared"\} (\S+)', text)
        return {**found, "entries": float(gauge[0]) if gauge else 0}

    with gunicorn(tmp_path, runtime) as server:
        until(answers)
        for first in range(0, 40, 8):
            assert set(ask(socket, *(f"/{number}" for number in range(first, first + 8)))) == {b"done"}
        until(lambda: sums() == {"volatile tiles": 40, "shared pages": 40, "entries": 40})
        before = workers()
        os.kill(min(before), signal.SIGTERM)  # a worker that is recycled ends so
        until(lambda: len(workers()) == WORKERS and workers() != before)
        until(lambda: sums() == {"volatile tiles": 40, "shared pages": 40, "entries": 40})
        assert ask(socket, "/41") == [b"done"]
        until(lambda: sums() == {"volatile tiles": 41, "shared pages": 41, "entries": 41})
