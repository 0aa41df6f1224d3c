"""A `VolatileStore` as a store: what zarr's own suite does not ask."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zarr", minversion="3.0", reason="make integrations installs it")

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore

import mvolatile as mv
from mvolatile.integrations.zarr import VolatileStore
from support.zarrs import PROTOTYPE, Counted, buffer, got

PARTS: list[Any] = [
    None,
    RangeByteRequest(10, 20),
    RangeByteRequest(99_990, 200_000),
    OffsetByteRequest(99_000),
    SuffixByteRequest(7),
    SuffixByteRequest(200_000),
]


@pytest.mark.parametrize("whole_first", [False, True])
@pytest.mark.parametrize("length", [100, 100_000])
def test_ranges(store: VolatileStore, inner: Counted, whole_first: bool, length: int) -> None:
    data = os.urandom(length)
    sync(store.set("c/0", buffer(data)))
    truths = [inner.get("c/0", PROTOTYPE, part) for part in PARTS]
    truth = [sync(one).to_bytes() for one in truths]
    inner.asked.clear()
    for _ in range(2):
        for part, right in list(zip(PARTS, truth, strict=True))[:: 1 if whole_first else -1]:
            assert got(store, "c/0", part) == right
    assert len(inner.asked) == (1 if whole_first else len(PARTS))
    sync(store.set("c/0", buffer(data[::-1])))
    assert [got(store, "c/0", part) for part in PARTS] == [
        sync(inner.get("c/0", PROTOTYPE, part)).to_bytes() for part in PARTS
    ]


def change_by(what: str, store: Any) -> bytes | None:
    """Of `c/0`; what it is afterwards."""
    if what == "set":
        sync(store.set("c/0", buffer(b"new")))
    elif what == "set_many":
        sync(store._set_many([("c/0", buffer(b"new")), ("c/1", buffer(b"x"))]))
    elif what == "set_if_not_exists":
        sync(store.set_if_not_exists("c/0", buffer(b"new")))
        return b"old"
    else:
        sync(
            {"delete": store.delete, "delete_dir": store.delete_dir}[what]("c/0" if what == "delete" else "c")
            if what != "clear"
            else store.clear()
        )
        return None
    return b"new"


@pytest.mark.parametrize("what", ["set", "set_many", "set_if_not_exists", "delete", "delete_dir", "clear"])
@pytest.mark.parametrize("through", ["itself", "its read-only one's writer", "a copy"])
def test_changes_are_seen(store: VolatileStore, what: str, through: str) -> None:
    sync(store.set("c/0", buffer(b"old")))
    other: Any = {
        "itself": lambda: store,
        "its read-only one's writer": lambda: store.with_read_only(True).with_read_only(False),
        "a copy": lambda: pickle.loads(pickle.dumps(store)),
    }[through]()
    assert [got(one, "c/0") for one in (store, other, store)] == [b"old"] * 3
    after = change_by(what, other)
    assert [got(one, "c/0") for one in (store, other, store)] == [after] * 3
    assert [got(one, "c/0", OffsetByteRequest(1)) for one in (store, other)] == [after and after[1:]] * 2


def test_metadata_is_never_kept(store: VolatileStore, inner: Counted) -> None:
    for key in ("zarr.json", "a/zarr.json", "a/.zarray", ".zmetadata", "a/.zattrs", ".zgroup"):
        sync(inner.set(key, buffer(b"1")))
        assert got(store, key) == b"1"
        sync(inner.set(key, buffer(b"2")))
        assert got(store, key) == b"2"


def test_that_a_chunk_is_missing_is_not_kept(store: VolatileStore, inner: Counted) -> None:
    assert got(store, "c/0") is None
    sync(inner.set("c/0", buffer(b"1")))
    assert got(store, "c/0") == b"1"


def test_what_was_read_before_a_change_is_not_kept_after_it(store: VolatileStore, inner: Counted) -> None:
    """The reader has the old value in its hands while a writer changes it and returns."""
    sync(inner.set("c/0", buffer(b"old")))

    async def schedule() -> None:
        read, written = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            inner.after = None
            read.set()
            await written.wait()

        inner.after = wait
        reader = asyncio.create_task(store.get("c/0", PROTOTYPE))
        await read.wait()
        await store.set("c/0", buffer(b"new"))
        written.set()
        found = await reader
        assert found is not None
        assert found.to_bytes() == b"old", "it began before"

    sync(schedule())
    assert got(store, "c/0") == b"new"


def test_a_change_that_fails_may_have_happened(store: VolatileStore, inner: Counted) -> None:
    class LateError(Exception):
        pass

    async def half(key: str, value: Any) -> None:
        raise LateError

    sync(inner.set("c/0", buffer(b"old")))
    assert got(store, "c/0") == b"old"
    inner.set = half  # type: ignore[method-assign]
    with pytest.raises(LateError):
        sync(store.set("c/0", buffer(b"new")))
    del inner.set
    assert got(store, "c/0") == b"old"
    sync(inner.set("c/0", buffer(b"new")))  # as a thread may, for who was cancelled
    assert got(store, "c/0") == b"new"


def test_what_a_hit_gives_cannot_be_written_to(store: VolatileStore) -> None:
    sync(store.set("c/0", buffer(b"x" * 100_000)))
    got(store, "c/0")
    found = sync(store.get("c/0", PROTOTYPE))
    assert found is not None
    array = found.as_numpy_array()
    if isinstance(store.volatile, mv.SharedCache):
        array[0] = 1  # its own copy
    else:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert got(store, "c/0") == b"x" * 100_000


def test_a_store_that_is_read_only(store: VolatileStore, inner: Counted) -> None:
    sync(inner.set("c/0", buffer(b"old")))
    reader = store.with_read_only(True)
    with pytest.raises(ValueError, match="read-only"):
        sync(reader.set("c/0", buffer(b"new")))
    got(reader, "c/0")
    inner.asked.clear()
    assert got(reader, "c/0") == b"old"
    assert inner.asked == []


def test_many_at_once_read_a_chunk_once(store: VolatileStore, inner: Counted) -> None:
    sync(inner.set("c/0", buffer(b"old")))

    async def all_at_once() -> set[bytes]:
        found = await asyncio.gather(*(store.get("c/0", PROTOTYPE) for _ in range(20)))
        return {one.to_bytes() for one in found if one is not None}

    assert sync(all_at_once()) == {b"old"}
    assert inner.asked == ["c/0"]


def test_sizes_are_the_stores(store: VolatileStore, inner: Counted) -> None:
    sync(inner.set("c/0", buffer(b"old")))
    got(store, "c/0")
    sync(inner.set("c/0", buffer(b"older")))
    assert sync(store.getsize("c/0")) == sync(store.getsize_prefix("c")) == 5


def test_arguments(tmp_path: Path, closing: None) -> None:
    with pytest.raises(ValueError, match="namespace"):
        VolatileStore(MemoryStore(), shared="chunks")
    with pytest.raises(TypeError, match="is one already"):
        VolatileStore(MemoryStore(), cache=mv.VolatileCache(), max_bytes=5)
    cache = mv.VolatileCache()
    one, another = (VolatileStore(MemoryStore(), cache=cache) for _ in range(2))
    sync(one.set("c/0", buffer(b"1")))
    sync(another.set("c/0", buffer(b"2")))
    assert [got(one, "c/0"), got(another, "c/0"), got(one, "c/0")] == [b"1", b"2", b"1"]
    here = VolatileStore(LocalStore(tmp_path / "d"), shared="chunks")
    assert here.volatile.name == "chunks"
    assert "LocalStore" in repr(here)
    cache.close()
    assert got(one, "c/0") == b"1"
    sync(one.set("c/0", buffer(b"3")))
    assert got(one, "c/0") == b"3"
