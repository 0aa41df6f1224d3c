"""fsspec's ``cache_type="volatile"``: which blocks serve whom, and that they are the file's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="make integrations installs it")


from mvolatile.integrations.fsspec import VolatileCache
from mvolatile.testing import purging
from support.disks import BLOCK, SIZE, Disk, Untold, opened


def test_reads_are_the_files(file: Path, cache: Any) -> None:
    data = file.read_bytes()
    with opened(file, cache=cache) as read:
        assert isinstance(read.cache, VolatileCache)
        assert read.cache.nblocks == 8
        for _ in range(2):
            for start, length in [(0, 1), (BLOCK - 1, 2), (3 * BLOCK, BLOCK), (5, SIZE), (SIZE - 200, 500)]:
                read.seek(start)
                assert read.read(length) == data[start : start + length]
        read.seek(0)
        assert read.read() == data
        assert read.read(1) == b""
        assert max(end for _, end in Disk.asked) == SIZE, "the last block is what there is of it"
        assert sum(end - start for start, end in Disk.asked) == SIZE, "and each was asked for once"


def test_neighbours_are_asked_for_at_once(file: Path, cache: Any) -> None:
    with opened(file, cache=cache) as read:
        read.seek(3 * BLOCK)
        read.read(1)
        read.seek(0)
        read.read()
    assert Disk.asked == [(3 * BLOCK, 4 * BLOCK), (0, 3 * BLOCK), (4 * BLOCK, SIZE)]


def test_an_unchanged_file_is_read_once(file: Path, cache: Any) -> None:
    for _ in range(3):
        with opened(file, cache=cache) as read:
            read.read()
    assert len(Disk.asked) == 1


@pytest.mark.parametrize("disk", [Disk, Untold])
def test_an_overwritten_file_is_read_anew(file: Path, cache: Any, disk: type[Disk]) -> None:
    """Of the same size, at the same time: a clock would tell nothing."""
    was = file.stat()
    with opened(file, disk, cache=cache) as read:
        read.read(2 * BLOCK)
    changed = bytes(reversed(file.read_bytes()))
    file.write_bytes(changed)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    with opened(file, disk, cache=cache) as read:
        assert read.read() == changed


def test_a_content_that_is_put_back(file: Path, cache: Any) -> None:
    """What was read in between, of another content, was kept as the first one's: their checksum is the same."""
    first = file.read_bytes()
    with opened(file, cache=cache) as read:
        read.read(BLOCK)
        file.write_bytes(bytes(reversed(first)))
        read.read(BLOCK)
    file.write_bytes(first)
    os.utime(file, (1, 1))
    with opened(file, cache=cache) as read:
        assert read.read() == first


def test_a_listing_that_is_older_than_the_file(file: Path, cache: Any) -> None:
    """It would say the old version, and the file be read in part as it was, in part as it is."""

    class Listing(Disk):
        """Which keeps what it listed, as those of object stores do."""

        protocol = "listing-disk-of-the-tests"
        cachable = False

        def info(self, path: str, **more: Any) -> dict[str, Any]:
            found: Any = self._ls_from_cache(path)
            return super().info(path, **more) if found is None else found[0]

        def ls(self, path: str, detail: bool = False, **more: Any) -> Any:
            self.dircache[path] = [super().info(str(file))]
            return self.dircache[path]

        def invalidate_cache(self, path: str | None = None) -> None:
            self.dircache.clear()

    disk = Listing()

    def read_all() -> bytes:
        options = {"block_size": BLOCK, "cache_type": "volatile", "cache_options": {"cache": cache}}
        with disk.open(str(file), "rb", **options) as read:
            begin: bytes = read.read(BLOCK)
            return begin + read.read()

    disk.ls(str(file.parent))
    assert read_all() == file.read_bytes()
    cache.delete_many([key for key in cache if key[-1] == 3])
    file.write_bytes(os.urandom(SIZE))
    disk.ls(str(file.parent)) if not disk.dircache else None
    assert read_all() == file.read_bytes()


def test_blocks_of_an_untold_version_leave_with_the_file(file: Path, cache: Any) -> None:
    read = opened(file, Untold, cache=cache)
    read.read()
    assert len(cache) == 8
    read.close()
    assert len(cache) == 0
    opened(file, Untold, cache=cache).read()  # forgotten, not closed
    import gc

    gc.collect()
    assert len(cache) == 0


def test_versions_that_are_given(file: Path, cache: Any) -> None:
    def times(disk: type[Disk], version: Any) -> int:
        Disk.asked.clear()
        for _ in range(2):
            with opened(file, disk, cache=cache, version=version) as read:
                read.read()
        return len(Disk.asked)

    assert times(Untold, None) == 2
    assert times(Untold, "2026-11") == 1
    assert times(Untold, lambda info: (info["size"], info["mtime"])) == 1
    assert times(Untold, lambda info: None) == 2
    with pytest.raises(KeyError, match="no such thing"):
        times(Untold, lambda info: info["no such thing"])
    assert times(Disk, False) == 2


def test_file_systems_of_other_options_are_others(file: Path, cache: Any) -> None:
    for user in ("one", "another"):
        with Disk(user=user).open(
            str(file), "rb", block_size=BLOCK, cache_type="volatile", cache_options={"cache": cache}
        ) as read:
            read.read()
    assert len(Disk.asked) == 2
    with Disk(session=object()).open(  # what it is called another may be called later
        str(file), "rb", block_size=BLOCK, cache_type="volatile", cache_options={"cache": cache}
    ) as read:
        read.read()
    assert len(Disk.asked) == 3
    assert not any("another" in str(key) for key in cache), "options may be secrets"


def test_one_budget_for_all_files(tmp_path: Path, closing: None) -> None:
    for number in range(4):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * SIZE)
        with opened(path, max_bytes=2 * SIZE) as read:
            assert read.read() == bytes([number]) * SIZE
            (info,) = {read.cache.volatile.cache_info()}
    assert info.bytes <= 2 * SIZE
    assert info.evicted > 0


def test_what_the_kernel_took_is_fetched_again(file: Path, cache: Any) -> None:
    data = file.read_bytes()
    with opened(file, cache=cache) as read:
        with purging(seed=3):
            for _ in range(5):
                read.seek(0)
                assert read.read() == data
        for number in range(50):
            read.seek(number * 9_000)
            assert read.read(20_000) == data[number * 9_000 :][:20_000]
            cache.purge()
    assert cache.cache_info().purged > 0


def test_a_file_that_is_cut_while_it_is_open(file: Path, cache: Any) -> None:
    """What follows must not move up, and what is short must not be kept."""
    data = file.read_bytes()
    with opened(file, cache=cache) as read:
        read.seek(6 * BLOCK)
        read.read(1)
        file.write_bytes(data[: BLOCK + 10])
        read.seek(0)
        assert read.read() == data[: BLOCK + 10]
        read.seek(BLOCK)
        assert read.read(100) == data[BLOCK : BLOCK + 10]
        file.write_bytes(data)
        read.seek(BLOCK)
        assert read.read(100) == data[BLOCK : BLOCK + 100]
        read.seek(0)
        assert read.read() == data
