"""Caches before what people have: diskcache, zict, Redis, memcached, LMDB."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mvolatile import VolatileCache, behind
from mvolatile.cache.engine import engine_of


def started(command: list[str], connected: Callable[[], Any]) -> subprocess.Popen[bytes]:
    """A server that answers."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(3000):
        try:
            connected()
        except Exception:
            assert server.poll() is None, "the server ended"
            time.sleep(0.01)
        else:
            return server
    server.kill()
    server.wait()
    raise AssertionError("the server does not answer")


@pytest.fixture
def redis_client(tmp_path: Path) -> Iterator[Any]:
    redis = pytest.importorskip("redis")
    path = str(tmp_path / "redis.sock")
    client = redis.Redis(unix_socket_path=path)
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", str(tmp_path)]
    server = started(command, client.ping)
    yield client
    client.close()
    server.terminate()
    server.wait(60)


@pytest.fixture
def memcached_client() -> Iterator[Any]:
    pymemcache = pytest.importorskip("pymemcache")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = pymemcache.PooledClient(("127.0.0.1", port))
    user = ["-u", "nobody"] if shutil.which("memcached") else []
    server = started(["memcached", "-l", "127.0.0.1", "-p", str(port), *user], client.version)
    yield client
    client.close()
    server.terminate()
    server.wait(60)


def diskcache_of(tmp_path: Path) -> Any:
    return pytest.importorskip("diskcache").Cache(tmp_path / "disk")


def fanout_of(tmp_path: Path) -> Any:
    return pytest.importorskip("diskcache").FanoutCache(tmp_path / "fanout", shards=2)


def zict_of(tmp_path: Path) -> Any:
    return pytest.importorskip("zict").File(tmp_path / "zict")


@pytest.fixture
def lmdb_environment(tmp_path: Path) -> Iterator[Any]:
    with pytest.importorskip("lmdb").open(str(tmp_path / "lmdb"), map_size=16 << 20) as environment:
        yield environment


@pytest.fixture(params=["diskcache", "fanout", "zict", "lmdb", "redis", "memcached"])
def mapping(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "redis":
        return behind.Redis(request.getfixturevalue("redis_client"), "some:prefix*")
    if request.param == "memcached":
        return behind.Memcached(request.getfixturevalue("memcached_client"))
    if request.param == "lmdb":
        return behind.LMDB(request.getfixturevalue("lmdb_environment"))
    return {"diskcache": diskcache_of, "fanout": fanout_of, "zict": zict_of}[request.param](tmp_path)


VALUES = {"bytes": b"x" * 100, "large": bytes(200_000), "text": "\udcff", 5: {"a": [1]}, (1, "b"): None}


@pytest.mark.parametrize("mode", ["back", "through"])
def test_it_survives_restarts_deletions_and_clearing(mapping: Any, mode: Any) -> None:
    with VolatileCache(behind=mapping, behind_mode=mode) as cache:
        for key, value in VALUES.items():
            cache[key] = value
        cache.set("short", b"v", ttl=0.001)
        cache.set("long", b"v", ttl=1e7)
    with VolatileCache(behind=mapping, behind_mode=mode, name="another") as other:
        assert other.get("bytes") is None
        other["k"] = b"another's"
    with VolatileCache(behind=mapping, behind_mode=mode) as cache:
        for key, value in VALUES.items():
            assert cache.get_or_set(key, lambda: "made") == value
        assert cache["long"] == b"v"
        while "short" in cache:
            pass
        del cache["bytes"]
        info = cache.cache_info()
        assert (info.behind_hits, info.behind_errors) == (6, 0)
    with VolatileCache(behind=mapping, behind_mode=mode) as cache:
        assert "bytes" not in cache
        assert "large" in cache
        cache.clear()
        cache["new"] = b"v"
    with VolatileCache(behind=mapping, behind_mode=mode) as cache:
        assert sorted(key for key in map(str, [*VALUES, "new"]) if key in cache) == ["new"]
    if not isinstance(mapping, behind.Memcached):
        with VolatileCache(behind=mapping, name="another") as other:
            assert other["k"] == b"another's"
    if hasattr(mapping, "close"):
        mapping.close()


def test_threads(mapping: Any) -> None:
    cache: VolatileCache[int, int] = VolatileCache(behind=mapping)

    def work() -> None:
        for n in range(100):
            cache[n % 10] = n
            cache.get(n % 7)
            cache.pop(n % 5, None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    cache.close()
    assert cache.cache_info().behind_errors == 0
    before = {n: n for n in range(10)}
    with VolatileCache(behind=mapping) as again:
        assert all(again.get(n, n) % 10 == n for n in before)
    if hasattr(mapping, "close"):
        mapping.close()


def test_a_server_that_goes_and_comes_back(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvolatile.cache.behind.writer.PAUSE", 0.0)
    cache: VolatileCache[str, bytes] = VolatileCache(behind=behind.Redis(redis_client))
    cache["k"] = b"old"
    tier = engine_of(cache).tier
    assert tier is not None
    tier.writer.flush()
    redis_client.config_set("maxmemory", 1)
    redis_client.config_set("maxmemory-policy", "noeviction")
    with pytest.warns(RuntimeWarning, match="OutOfMemoryError|OOM"):  # noqa: PT031
        cache["k"] = b"new" * 1000
        tier.writer.flush()
    assert cache["k"] == b"new" * 1000
    redis_client.config_set("maxmemory", 0)
    cache["l"] = b"v"
    cache.close()
    again: VolatileCache[str, bytes] = VolatileCache(behind=behind.Redis(redis_client))
    assert again.get("k") is None, "not the older value"
    assert again["l"] == b"v"
    again.close()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A file system of one MiB."""
    diskcache = pytest.importorskip("diskcache")
    disk = tmp_path / "full"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        with diskcache.Cache(disk) as mapping:
            cache: VolatileCache[int, bytes] = VolatileCache(behind=mapping, inherit=False)
            tier = engine_of(cache).tier
            assert tier is not None
            cache[0] = bytes(1000)
            with pytest.warns(RuntimeWarning, match="No space|disk is full"):  # noqa: PT031
                for n in range(1, 60):
                    cache[n] = n.to_bytes(2, "little") * 50_000
                    cache[0] = n.to_bytes(2, "little") * 500
                    tier.writer.flush()
            cache.purge()
            for n in range(60):
                assert cache.get(n) in (None, (n or 59).to_bytes(2, "little") * (50_000 if n else 500))
            with pytest.warns(RuntimeWarning, match="could not be done there"):
                cache.close()
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            cache.close()
            assert cache.cache_info().behind_waiting == 0
            found: VolatileCache[int, bytes] = VolatileCache(behind=mapping)
            assert found.get(0) in (None, (59).to_bytes(2, "little") * 500)
            for n in range(1, 60):
                assert found.get(n) in (None, n.to_bytes(2, "little") * 50_000)
            found.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
