"""What prometheus_client's multiprocess files say where something is short, and over an exec."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="make integrations installs it")

from support.processes import run_python


def test_a_full_disk_kills_nobody_and_loses_no_count(tmp_path: Path) -> None:
    """The files are sparse and mapped: who writes into a page for which there is no room gets SIGBUS."""

    def child() -> None:
        import os

        import pytest
        from prometheus_client import CollectorRegistry, multiprocess

        from mvolatile import VolatileCache
        from mvolatile.integrations.prometheus import Publisher

        directory = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        publisher = Publisher()

        def fill() -> None:
            with open(f"{directory}/fill", "wb", 0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))

        def stores(cache: str) -> float | None:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            own = {"cache": cache, "kind": "volatile"}
            return registry.get_sample_value("mvolatile_cache_stores_total", own)

        first: VolatileCache[int, bytes] = VolatileCache(name="first")
        first[1] = b"x"
        fill()
        with pytest.raises(OSError, match="no room for metrics"):
            publisher.publish()
        os.unlink(f"{directory}/fill")
        publisher.publish()
        assert stores("first") == 1
        fill()
        first[2] = b"x"
        publisher.publish()  # what has its place already goes on
        assert stores("first") == 2
        second: VolatileCache[int, bytes] = VolatileCache(name="second")
        second[1] = first[3] = b"x"
        with pytest.raises(OSError, match="no room for metrics"):
            publisher.publish()
        os.unlink(f"{directory}/fill")
        first[4] = b"x"
        publisher.publish()
        assert (stores("first"), stores("second")) == (4, 1)

    directory = tmp_path / "small"
    directory.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {shlex.quote(str(directory))}"
    own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    tried = subprocess.run([*own, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no file system of 1 MiB is to be had: {tried.stderr}")
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    run_python(child, env=env, wrap=lambda argv: [*own, *argv]).check()


def test_where_no_descriptor_is_left_all_is_told_later_and_once(tmp_path: Path) -> None:
    def child() -> None:
        import os
        import resource

        import pytest
        from prometheus_client import CollectorRegistry, multiprocess

        from mvolatile import VolatileCache
        from mvolatile.integrations.prometheus import Publisher

        cache: VolatileCache[int, bytes] = VolatileCache(name="t")
        publisher = Publisher()
        cache[1] = b"x"
        lowest = os.dup(0)
        os.close(lowest)
        for spare in range(4):  # counters, gauges added up, the largest of gauges, histograms: a file each
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, 4096))
            with pytest.raises(OSError, match="Too many open files"):
                publisher.publish()
            cache[spare] = b"x"
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        publisher.publish()
        publisher.publish()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        own = {"cache": "t", "kind": "volatile"}
        assert registry.get_sample_value("mvolatile_cache_stores_total", own) == 5
        assert registry.get_sample_value("mvolatile_cache_entries", own) == 4

    run_python(child, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}).check()


def test_counts_go_on_over_an_exec_and_what_was_there_is_none(tmp_path: Path) -> None:
    """The number, and so the files, are the same; a gauge of a cache that is gone would stand for ever."""

    def child() -> None:
        import os
        import sys

        from prometheus_client import CollectorRegistry, Gauge, multiprocess

        from mvolatile import VolatileCache
        from mvolatile.integrations.prometheus import Publisher

        again = os.environ.get("AGAIN")
        gauge = Gauge("programs", "Their own.", multiprocess_mode="livesum")
        both: VolatileCache[int, bytes] = VolatileCache(name="both")
        alone: VolatileCache[int, bytes] = VolatileCache(name="second" if again else "first")
        both[1] = alone[1] = alone[2] = b"x"
        publisher = Publisher()
        publisher.publish()
        if not again:
            gauge.set(7)
            os.environ["AGAIN"] = "1"
            os.execv(sys.executable, sys.orig_argv)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)

        def told(what: str, cache: str) -> float | None:
            return registry.get_sample_value(f"mvolatile_cache_{what}", {"cache": cache, "kind": "volatile"})

        assert [told("stores_total", name) for name in ("both", "first", "second")] == [2, 2, 2]
        assert [told("entries", name) for name in ("both", "first", "second")] == [1, 0, 2]
        assert registry.get_sample_value("programs") == 7

    run_python(child, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}).check()


def test_ages_are_added_as_they_were(tmp_path: Path) -> None:
    """By class, with their own sum, and however many at once."""

    def child() -> None:
        from prometheus_client import CollectorRegistry, multiprocess

        from mvolatile import VolatileCache
        from mvolatile.cache.engine import engine_of
        from mvolatile.integrations.prometheus import Publisher

        cache: VolatileCache[int, bytes] = VolatileCache(name="t")
        ages, publisher = engine_of(cache).store.ages, Publisher()
        for times in (1, 2):
            for age, many in ((0.25, 3), (30.0, 100_000), (90_000.0, 2)):
                ages.counts = [
                    count + many * (at == {0.25: 0, 30.0: 2, 90_000.0: 7}[age])
                    for at, count in enumerate(ages.counts)
                ]
                ages.sum += age * many
            publisher.publish()
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            own = {"cache": "t", "kind": "volatile"}
            sample, name = registry.get_sample_value, "mvolatile_cache_lost_age_seconds"
            assert sample(f"{name}_sum", own) == times * (0.75 + 3_000_000 + 180_000)
            assert sample(f"{name}_count", own) == times * 100_005
            assert sample(f"{name}_bucket", {**own, "le": "1.0"}) == times * 3
            assert sample(f"{name}_bucket", {**own, "le": "86400.0"}) == times * 100_003

    run_python(child, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}).check()
