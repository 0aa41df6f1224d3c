"""zarr's arrays through a `VolatileStore`, and xarray."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zarr", minversion="3.0", reason="make integrations installs it")

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore

import mvolatile as mv
from mvolatile.integrations.zarr import VolatileStore
from mvolatile.testing import purging
from support.cgroups import Limited
from support.keepers import in_child
from support.zarrs import DATA, PROTOTYPE, Counted, buffer, new_array

SHAPES: dict[str, dict[str, Any]] = {
    "chunks": {},
    "shards": {"shards": (200, 300)},
    "version 2": {"zarr_format": 2},
    "not compressed": {"compressors": None},
    "shards in bytes that are compressed": {
        "chunks": (200, 100),
        "serializer": zarr.codecs.ShardingCodec(chunk_shape=(50, 50)),
        "compressors": zarr.codecs.ZstdCodec(),
    },
    "shards in shards": {
        "chunks": (200, 100),
        "compressors": None,
        "serializer": zarr.codecs.ShardingCodec(
            chunk_shape=(100, 50),
            codecs=[
                zarr.codecs.ShardingCodec(
                    chunk_shape=(50, 25), codecs=[zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()]
                )
            ],
        ),
    },
    "shards in shards that are compressed": {
        "chunks": (200, 100),
        "compressors": None,
        "serializer": zarr.codecs.ShardingCodec(
            chunk_shape=(100, 50),
            codecs=[
                zarr.codecs.ShardingCodec(
                    chunk_shape=(50, 25), codecs=[zarr.codecs.BytesCodec(), zarr.codecs.ZstdCodec()]
                ),
                zarr.codecs.ZstdCodec(),
            ],
        ),
    },
}
SELECTIONS: list[tuple[str, Any]] = [
    ("[]", (slice(None), slice(None))),
    ("[]", (slice(150, 420), slice(20, 333))),
    ("[]", (slice(3, 600, 7), slice(1, 500, 3))),
    ("[]", (5, slice(None))),
    ("[]", (slice(None), 499)),
    ("[]", (599, 499)),
    ("oindex", ([1, 500, 77], [3, 2, 450])),
    ("vindex", ([1, 500, 77], [3, 2, 450])),
]


def chosen(array: Any, how: str, what: Any) -> Any:
    if how == "[]":
        return array[what]
    if isinstance(array, np.ndarray):
        return array[np.ix_(*what)] if how == "oindex" else array[tuple(what)]
    return getattr(array, how)[what]


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed`")
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_are_right(store: VolatileStore, inner: Counted, shape: str) -> None:
    array, truth = new_array(store, **SHAPES[shape]), DATA.copy()
    again: Any = zarr.open_array(store, path="a", mode="r")
    for turn in range(3):
        for how, what in SELECTIONS:
            found = chosen(again, how, what)
            np.testing.assert_array_equal(found, chosen(truth, how, what))
            if isinstance(found, np.ndarray):
                assert found.flags.writeable
                found[...] = -1  # the caller's own
        array[turn * 90 : turn * 90 + 130, 40:260] = truth[turn * 90 : turn * 90 + 130, 40:260] = turn
    inner.asked.clear()
    for _ in range(2):
        np.testing.assert_array_equal(again[:], truth)
    inner.asked.clear()
    np.testing.assert_array_equal(again[:], truth)
    assert inner.asked == []


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A shape for each chunk that zstd has decoded."""
    decoded: list[Any] = []
    decode = zarr.codecs.ZstdCodec._decode_single

    async def counted(self: Any, data: Any, spec: Any) -> Any:
        decoded.append(spec.shape)
        return await decode(self, data, spec)

    monkeypatch.setattr(zarr.codecs.ZstdCodec, "_decode_single", counted)
    return decoded


def test_decoded_chunks_are_kept(inner: Counted, decoded: list[Any]) -> None:
    store = VolatileStore(inner)
    for name, how in (("a", {}), ("b", {"shards": (200, 300)})):
        array = new_array(store, name, **how)
        decoded.clear()
        for _ in range(3):
            np.testing.assert_array_equal(array[50:250, 50:350], DATA[50:250, 50:350])
        assert len(decoded) == 3 * 4, "each once"
        array[0:10, 0:10] = 5
        decoded.clear()
        assert (array[0:10, 0:10] == 5).all()
        assert len(decoded) == 1
    plain = VolatileStore(inner, decoded=False)
    array = zarr.open_array(plain, path="a")
    decoded.clear()
    for _ in range(2):
        array[:100, :100]
    assert len(decoded) == 2


@pytest.mark.parametrize("dear", ["fetching", "decoding"])
def test_where_there_is_no_room_for_both_the_dearer_form_is_kept(
    inner: Counted, decoded: list[Any], dear: str
) -> None:
    new_array(VolatileStore(inner, decoded=False))
    room = VolatileStore(inner)
    tight = VolatileStore(inner, max_bytes=100 * 100 * DATA.itemsize * 5 // 2)
    for store in (room, tight):
        (store.forms.fetched if dear == "fetching" else store.forms.decoded)(1, 1e6)
        array: Any = zarr.open_array(store, path="a")
        assert (array[:100, :200] == DATA[:100, :200]).all(), "two chunks: half of a third has room"
        decoded.clear()
        inner.asked.clear()
        for _ in range(3):
            np.testing.assert_array_equal(array[100:200, :100], DATA[100:200, :100])
        assert len([one for one in inner.asked if "c/1/0" in str(one)]) == 1
        assert len(decoded) == (3 if store is tight and dear == "fetching" else 1)


def test_an_array_of_another_form_at_the_same_place(store: VolatileStore, inner: Counted) -> None:
    """Its metadata may be changed by whom this store does not see; the chunks' bytes stay."""
    array = new_array(store, compressors=zarr.codecs.ZstdCodec())
    np.testing.assert_array_equal(array[:], DATA)
    meta = sync(inner.get("a/zarr.json", PROTOTYPE)).to_bytes()
    sync(inner.set("a/zarr.json", buffer(meta.replace(b'"int32"', b'"float32"'))))
    again: Any = zarr.open_array(store, path="a", mode="r")
    np.testing.assert_array_equal(again[:], DATA.view("f4"))
    array.resize((700, 450))
    np.testing.assert_array_equal(zarr.open_array(store, path="a", mode="r")[:600], DATA[:, :450])


def test_an_array_that_is_made_anew(store: VolatileStore) -> None:
    new_array(store)[:]
    array: Any = zarr.create_array(
        store, name="a", shape=(50,), chunks=(50,), dtype="f8", overwrite=True, fill_value=3
    )
    np.testing.assert_array_equal(array[:], np.full(50, 3.0))


@pytest.mark.filterwarnings("ignore:The data type")
@pytest.mark.parametrize("dtype", ["str", "datetime64[s]", "bool", "complex64", "S5", "U7"])
def test_types(store: VolatileStore, dtype: str) -> None:
    values = np.array(
        [b"1" if dtype == "S5" else "1", "0"] * 20 if dtype in ("str", "U7", "S5") else [1, 0] * 20
    )
    values = values.astype(dtype if dtype != "str" else np.dtypes.StringDType())
    array: Any = zarr.create_array(store, name="t", shape=values.shape, chunks=(7,), dtype=values.dtype)
    array[:] = values
    for _ in range(3):
        assert array[3:30].tolist() == values[3:30].tolist()


def test_what_the_kernel_took_is_read_again(inner: Counted) -> None:
    store = VolatileStore(inner)
    array = new_array(store)
    sharded = new_array(store, "b", shards=(200, 300))
    with purging(seed=11):
        for turn in range(6):
            at = turn * 60
            np.testing.assert_array_equal(array[at : at + 300], DATA[at : at + 300])
            np.testing.assert_array_equal(sharded[:, at : at + 100], DATA[:, at : at + 100])
    store.volatile.purge()
    np.testing.assert_array_equal(array[:], DATA)
    assert store.cache_info().purged > 0


def test_threads_that_read_while_others_write(store: VolatileStore) -> None:
    """Each chunk has one number, which only grows: who reads finds none that is older than one written before."""
    array: Any = zarr.create_array(store, name="n", shape=(2, 2000), chunks=(1, 2000), dtype="i8")
    array[:] = 0
    told = [0] * 2
    stop = threading.Event()

    def write(row: int) -> None:
        for number in range(1, 13):
            array[row] = number
            told[row] = number

    def read(row: int) -> int:
        seen = 0
        while not stop.is_set():
            least = told[row]
            found = array[row]
            assert found.min() == found.max() >= least
            seen += 1
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, row) for row in range(2)]
        writers = [pool.submit(write, row) for row in range(2)]
        for writer in writers:
            writer.result()
        stop.set()
        assert all(reader.result() for reader in readers)


def test_processes_see_each_others_changes(tmp_path: Path, closing: None) -> None:
    def open_it() -> Any:
        return VolatileStore(LocalStore(tmp_path / "d"), shared="chunks")

    array = new_array(open_it())
    array[:]

    def child() -> None:
        mine: Any = zarr.open_array(open_it(), path="a")
        hits = mine.store.cache_info().hits
        np.testing.assert_array_equal(mine[:], DATA)
        assert mine.store.cache_info().hits > hits
        mine[0:5] = 7

    in_child(child)
    assert (array[0:5] == 7).all()
    np.testing.assert_array_equal(array[5:], DATA[5:])


def test_fork(inner: Counted) -> None:
    store = VolatileStore(inner)
    array = new_array(store)
    array[:]

    def child() -> None:
        np.testing.assert_array_equal(array[:], DATA)
        assert pickle.loads(pickle.dumps(store)).volatile is store.volatile

    in_child(child)
    array[0:5] = 7
    assert (array[0:5] == 7).all()


def test_a_pickled_array(store: VolatileStore) -> None:
    array = new_array(store)
    copy = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(copy[:], DATA)
    copy[:] = 1
    assert (array[:] == 1).all()


def test_a_forgotten_store_gives_its_memory_back(inner: Counted) -> None:
    store = VolatileStore(inner)
    new_array(store)[:]
    cache = store.volatile
    del store
    gc.collect()
    assert cache in mv.caches(), "the test has it"
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None


def test_another_pipeline_that_is_configured_stays(inner: Counted) -> None:
    class Own(zarr.core.codec_pipeline.BatchedCodecPipeline):
        pass

    zarr.registry.register_pipeline(Own)
    path = f"{Own.__module__}.{Own.__qualname__}"
    with zarr.config.set({"codec_pipeline.path": path}):
        array = new_array(VolatileStore(inner))
        assert zarr.config.get("codec_pipeline.path") == path
        np.testing.assert_array_equal(array[:], DATA)


# ---- xarray


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_xarray(store: VolatileStore, inner: Counted) -> None:
    xarray = pytest.importorskip("xarray", reason="make integrations installs it")
    values = DATA.reshape(6, 100, 500).astype("f4")
    made = xarray.Dataset({"t": (("time", "y", "x"), values)}, coords={"time": np.arange(6)})
    made.to_zarr(store, zarr_format=3, encoding={"t": {"chunks": (1, 50, 100)}})
    for consolidated in (True, False):
        dataset = xarray.open_zarr(store, chunks=None, consolidated=consolidated)
        for _ in range(2):
            np.testing.assert_array_equal(dataset.t.isel(time=3).values, values[3])
            np.testing.assert_allclose(
                dataset.t[:, 10:60, 5].mean("time"), values[:, 10:60, 5].mean(0), rtol=1e-5
            )
    inner.asked.clear()
    again = xarray.open_zarr(store, chunks=None)
    np.testing.assert_array_equal(again.t.isel(time=3).values, values[3])
    assert [one for one in inner.asked if str(one).startswith("t/c")] == []
    (made * 2).to_zarr(store, mode="a")
    np.testing.assert_array_equal(xarray.open_zarr(store, chunks=None).t.values, values * 2)


# ---- under a limit


def read_an_array(folder: str) -> None:
    from random import Random

    import numpy as np
    import zarr

    from mvolatile.integrations.zarr import VolatileStore

    store = VolatileStore(zarr.storage.LocalStore(folder))
    array: Any = zarr.open_array(store, mode="r")
    random = Random(5)
    for _ in range(300):
        at = random.randrange(96)
        np.testing.assert_array_equal(array[at], np.full((512, 512), at, "f4"))
    info = store.cache_info()
    assert info.purged + info.evicted > 0, info
    print("right")


@pytest.mark.slow
def test_under_a_limit(tmp_path: Path, run_limited: Callable[..., Limited]) -> None:
    array: Any = zarr.create_array(tmp_path / "d", shape=(96, 512, 512), chunks=(1, 512, 512), dtype="f4")
    for number in range(96):
        array[number] = number
    done = run_limited(read_an_array, 130 << 20, str(tmp_path / "d"))
    assert done.stdout == "right\n", done.stderr
    assert done.oom_kills == 0
