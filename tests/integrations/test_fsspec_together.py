"""fsspec's ``cache_type="volatile"`` with threads, processes, a real server, and under a limit."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="make integrations installs it")

from fsspec.spec import AbstractBufferedFile

import mvolatile as mv
from mvolatile.integrations.fsspec import VolatileCache
from support.cgroups import Limited
from support.disks import BLOCK, SIZE, Disk, Untold, opened
from support.keepers import in_child


def test_threads(file: Path, cache: Any) -> None:
    data = file.read_bytes()
    start = threading.Barrier(8)

    def work(number: int) -> None:
        with opened(file, cache=cache) as read:
            start.wait()
            for turn in range(40):
                at = (turn * 7919 + number * 104_729) % SIZE
                read.seek(at)
                assert read.read(100_000) == data[at : at + 100_000]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    whole = opened(file, cache=cache).cache
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda at: whole._fetch(at, at + 999), range(0, SIZE - 999, 999))
        assert b"".join(parts) == data[: len(range(0, SIZE - 999, 999)) * 999]


def test_threads_that_want_one_block_fetch_it_once(file: Path, cache: Any) -> None:
    files = [opened(file, cache=cache) for _ in range(6)]
    start = threading.Barrier(6)

    def work(read: Any) -> bytes:
        read.cache.volatile  # noqa: B018 - it has asked for the version
        start.wait()
        found: bytes = read.read(10)
        return found

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(work, files)) == {file.read_bytes()[:10]}
    assert Disk.asked == [(0, BLOCK)]


def test_fork(file: Path, cache: Any) -> None:
    data = file.read_bytes()
    read = opened(file, Untold, cache=cache)
    read.read(3 * BLOCK)

    def child() -> None:
        read.seek(0)
        assert read.read() == data
        read.close()

    in_child(child)
    read.seek(0)
    assert read.read() == data


def test_processes_share_what_one_fetched(file: Path, closing: None) -> None:
    with opened(file, shared="files") as read:
        data = read.read()
    assert isinstance(read.cache is None and data, bytes)

    def child() -> None:
        Disk.asked.clear()
        with opened(file, shared="files") as again:
            assert again.read() == data
        assert Disk.asked == []

    in_child(child)
    with opened(file, Untold, shared="files") as read:
        assert read.read() == data
        assert isinstance(read.cache.volatile, mv.VolatileCache), "nobody else could use it"


def test_a_pickled_open_file_knows_the_type_where_nothing_was_imported(file: Path, closing: None) -> None:
    with opened(file) as read:
        read.seek(10)
        again = pickle.loads(pickle.dumps(read))
        assert isinstance(again.cache, VolatileCache)
        assert again.read(5) == file.read_bytes()[10:15]
        again.close()
    code = (
        "import pickle, sys, fsspec; name = pickle.loads(bytes.fromhex(sys.argv[1])); "
        "print(fsspec.caching.caches[name].__module__)"
    )
    name = pickle.dumps(VolatileCache.name).hex()
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert done.stdout == "mvolatile.integrations.fsspec\n"


def test_a_cache_that_was_closed(file: Path, cache: Any) -> None:
    with opened(file, cache=cache) as read:
        read.read(BLOCK)
        cache.close()
        read.seek(0)
        assert read.read() == file.read_bytes()


def test_arguments(file: Path, cache: Any) -> None:
    with pytest.raises(TypeError, match="neither shared nor max_bytes"):
        opened(file, cache=cache, max_bytes=5)
    with pytest.raises(TypeError, match="surprise"):
        opened(file, surprise=5)
    with pytest.raises(ValueError, match="blocksize must be"):
        VolatileCache(0, lambda start, end: b"", 5)


def test_subclasses_of_files_are_files_of_their_own(file: Path, cache: Any) -> None:
    """Which may read something else of the same path."""

    class Upper(AbstractBufferedFile):  # type: ignore[misc]
        def _fetch_range(self, start: int, end: int) -> Any:
            return super()._fetch_range(start, end).upper()

    file.write_bytes(b"abc" * BLOCK)
    options = {"block_size": BLOCK, "cache_type": "volatile", "cache_options": {"cache": cache}}
    with opened(file, cache=cache) as read, Upper(Disk(), str(file), **options) as upper:
        assert (read.read(3), upper.read(3)) == (b"abc", b"ABC")


@pytest.fixture
def served(file: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A server with ranges and ETags, and what it was asked."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(head=True)

        def do_GET(self, head: bool = False) -> None:
            data, wanted = file.read_bytes(), self.headers.get("Range")
            asked.append("HEAD" if head else f"GET {wanted}")
            part = data
            if wanted:
                first, last = wanted.removeprefix("bytes=").split("-")
                part = data[int(first) : int(last) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if not head:
                self.wfile.write(part)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/data", lambda: asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_over_http(file: Path, cache: Any, served: tuple[str, Callable[[], list[str]]]) -> None:
    pytest.importorskip("requests", reason="make integrations installs it")
    from fsspec.implementations.http_sync import HTTPFileSystem

    url, asked = served

    def read(start: int, length: int) -> bytes:
        system = HTTPFileSystem(skip_instance_cache=True)
        with system.open(
            url, block_size=BLOCK, cache_type="volatile", cache_options={"cache": cache}
        ) as remote:
            remote.seek(start)
            found: bytes = remote.read(length)
            return found

    data = file.read_bytes()
    assert read(100, 50) == read(100, 50) == data[100:150]
    assert len([one for one in asked() if one.startswith("GET bytes")]) == 1
    file.write_bytes(os.urandom(SIZE))
    assert read(100, 50) == file.read_bytes()[100:150]


def read_files(folder: str) -> None:
    from pathlib import Path
    from random import Random

    from fsspec.implementations.local import LocalFileSystem
    from fsspec.spec import AbstractFileSystem

    import mvolatile.integrations.fsspec  # noqa: F401

    class Disk(LocalFileSystem):  # type: ignore[misc]
        _open = AbstractFileSystem._open

        def cat_file(self, path: str, start: int = 0, end: int = 0, **more: object) -> bytes:
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(end - start)

    random, size = Random(5), 12 << 20
    options = {"block_size": 256 << 10, "cache_type": "volatile"}
    files = [Disk().open(str(Path(folder, str(number))), "rb", **options) for number in range(8)]
    for _ in range(400):
        number, at = random.randrange(8), random.randrange(size)
        files[number].seek(at)
        assert files[number].read(200_000) == bytes([number]) * min(200_000, size - at)
    info = files[0].cache.volatile.cache_info()
    assert info.purged + info.evicted > 0, info
    assert info.hits > 100, info
    print("right")


@pytest.mark.slow
def test_under_a_limit(tmp_path: Path, run_limited: Callable[..., Limited]) -> None:
    for number in range(8):
        (tmp_path / str(number)).write_bytes(bytes([number]) * (12 << 20))
    done = run_limited(read_files, 90 << 20, str(tmp_path))
    assert done.stdout == "right\n", done.stderr
    assert done.oom_kills == 0
