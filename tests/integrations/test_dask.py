"""dask.cache.Cache over a volatile cache: never a wrong value, and never an error for one that is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

pytest.importorskip("dask", reason="make integrations installs it")
pytest.importorskip("distributed", reason="make integrations installs it")
pytest.importorskip("cachey", reason="make integrations installs it")

import dask
import dask.array as da
import dask.bag as db
import numpy as np
from dask.cache import Cache
from dask.delayed import delayed
from dask.local import get_sync

from mvolatile import _core
from mvolatile.integrations.dask import VolatileCache

purges = pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here")


@pytest.fixture(autouse=True)
def pool(_leaves_nothing: None) -> Iterator[ThreadPoolExecutor]:
    """Dask's own pools would outlive the test."""
    with ThreadPoolExecutor(2) as pool, dask.config.set(scheduler="synchronous", pool=pool):
        yield pool


@pytest.fixture
def cache(closing: None) -> VolatileCache:
    return VolatileCache()


@pytest.fixture
def made() -> list[Any]:
    return []


def graph(made: list[Any]) -> dict[str, Any]:
    """Tasks whose values a graph could take for a key, a call, or a task."""

    def make(value: Any) -> Any:
        made.append(value)
        return value

    values = {"key": "call", "call": (len, [1, 2]), "tasks": [("key",), "key"], "number": 1}
    tasks: dict[Any, Any] = {name: (partial(make, value),) for name, value in values.items()}
    return {**tasks, 1: (str, "of the key 1"), "all": (gathered, *values)}


def gathered(*values: Any) -> list[Any]:
    return list(values)


ALL = ["call", (len, [1, 2]), [("key",), "key"], 1]


def test_values_are_what_the_tasks_made(cache: VolatileCache, made: list[Any]) -> None:
    with Cache(cache):
        assert get_sync(graph(made), "all") == ALL
        assert len(made) == 4
        assert get_sync(graph(made), "key") == "call"
        assert get_sync({**graph(made), "more": (gathered, "key", "call", "tasks", "number")}, "more") == ALL
    assert len(made) == 4, "all of them from the cache"


def test_arrays_frames_bags_and_delayed(cache: VolatileCache) -> None:
    made = []

    def inc(block: Any) -> Any:
        made.append(1)
        return block + 1

    x = da.arange(1000, chunks=100).map_blocks(inc, meta=np.array((), int))
    bag = db.from_sequence(range(10), npartitions=2).map(lambda one: one * 2).filter(lambda one: one % 3)
    value = delayed(inc, pure=True)(np.arange(3))
    with Cache(cache):
        for _ in range(3):
            assert x.sum().compute() == 500500
            assert bag.sum().compute() == sum(n * 2 for n in range(10) if n * 2 % 3)
            assert value.compute().tolist() == [1, 2, 3]
    assert len(made) == 11


def test_frames(cache: VolatileCache) -> None:
    pd = pytest.importorskip("pandas")
    try:
        import dask.dataframe as dd
    except ImportError as error:
        pytest.skip(f"dask.dataframe wants more: {error}")
    frame = dd.from_pandas(pd.DataFrame({"a": range(100), "b": [n % 3 for n in range(100)]}), npartitions=4)
    with Cache(cache):
        first = frame.groupby("b").a.sum().compute()
        again = frame.groupby("b").a.sum().compute()
    pd.testing.assert_series_equal(first, again)
    assert cache.cache_info().hits > 0


def test_registered_for_all_computations(
    cache: VolatileCache, made: list[Any], pool: ThreadPoolExecutor
) -> None:
    registered = Cache(cache)
    registered.register()
    try:
        get_sync(graph(made), "all")
        assert dask.threaded.get(graph(made), "all", pool=pool) == ALL
    finally:
        registered.unregister()
    assert len(made) == 4


def test_a_hit_is_a_copy(cache: VolatileCache) -> None:
    def spoil(block: Any) -> Any:
        block += 1
        return block

    x = delayed(np.zeros, pure=True)(3)
    with Cache(cache):
        for _ in range(3):
            assert x.compute().tolist() == [0, 0, 0]
            assert delayed(spoil)(x).compute().tolist() == [1, 1, 1]
            got = x.compute()
            got += 7


def test_what_a_task_cost_stays_with_its_value(cache: VolatileCache) -> None:
    slow = delayed(lambda: time.sleep(0.05) or 1, pure=True)()
    with Cache(cache):
        slow.compute()
        slow.compute()
    assert 0.03 < cache.cache_info().saved_seconds < 5


def test_what_cannot_be_stored_is_passed_over(closing: None) -> None:
    cache = VolatileCache(max_bytes=1 << 20)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    values: list[Any] = [
        lambda: threading.Lock(),
        lambda: deep,
        lambda: iter([1, 2, 3]),
        lambda: map(str, [1]),
        lambda: b"x" * (2 << 20),
    ]
    with Cache(cache):
        for number, make in enumerate(values):
            assert type(get_sync({number: (make,)}, number)) is type(make())
    assert len(cache.data) == 0


def test_an_error_of_a_task_is_the_tasks(cache: VolatileCache) -> None:
    with Cache(cache):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                get_sync({"x": (lambda: 1 // 0,)}, "x")
    assert "x" not in cache


@purges
@pytest.mark.parametrize("others", [0, 50], ids=["the graph is smaller", "the graph is larger"])
def test_a_result_lost_between_listing_and_reading(cache: VolatileCache, others: int) -> None:
    """The lines of dask.cache.Cache, and the kernel between them."""
    for number in range(10):
        cache.put(("block", number), np.full(10_000, number), 1.0, 80_000)
    graph: dict[Any, Any] = {("block", number): None for number in range(5)}
    graph.update({("other", number): None for number in range(others)})
    overlap = set(graph) & set(cache.data)
    assert len(overlap) == 5
    cache.volatile.clear()
    for key in overlap:
        graph[key] = cache.data[key]
    for number in range(5):
        assert (graph["block", number]() == number).all()
    assert ("block", 1) not in cache
    assert set(graph) & set(cache.data) == set(), "and what is gone is in no graph"


@purges
def test_what_the_kernel_took_is_made_again(cache: VolatileCache) -> None:
    made = []

    def count(block: Any) -> Any:
        made.append(1)
        return block * 2

    x = da.ones(200_000, chunks=20_000).map_blocks(count, meta=np.array(()))
    with Cache(cache):
        assert (x.compute() == 2).all()
        assert len(made) == 10
        assert cache.volatile.purge() > 0
        assert (x.compute() == 2).all()
    assert len(made) > 10


@purges
@pytest.mark.slow
def test_losses_at_any_moment(cache: VolatileCache, pool: ThreadPoolExecutor) -> None:
    """Threads compute while another has the kernel take all."""
    over = threading.Event()

    def purging() -> None:
        while not over.is_set():
            cache.volatile.purge()

    thread = threading.Thread(target=purging)
    thread.start()
    failures: list[Any] = []

    def computing() -> None:
        x = da.arange(40_000, chunks=1000) * 3
        try:
            for _ in range(20):
                assert x.sum().compute(scheduler="threads", pool=pool) == 3 * 40_000 * 39_999 // 2
        except BaseException as error:
            failures.append(error)

    try:
        with Cache(cache):
            threads = [threading.Thread(target=computing) for _ in range(2)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
    finally:
        over.set()
        thread.join()
    assert failures == []


def test_cacheys_interface(cache: VolatileCache) -> None:
    cache.put("x", [1], cost=3)
    assert cache.get("x") == [1]
    assert cache.data["x"] == [1]
    assert list(cache.data.keys()) == ["x"] == [key for key, _ in cache.data.items()]
    assert list(cache.data.values()) == [[1]]
    assert "x" in cache
    assert "x" in cache.data
    assert repr(list(cache.data)) == "['x']"
    assert [cache.data[key] for key in cache.data] == [[1]]
    cache.retire("x")
    cache.retire("x")
    assert cache.get("x", 7) == 7
    with pytest.raises(KeyError):
        _ = cache.data["x"]
    for number in range(100):
        cache.put(number, b"x" * 10_000, cost=1e-12, nbytes=10_000)
    cache.resize(100_000)
    assert 0 < len(cache.data) <= 10
    cache.clear()
    assert len(cache.data) == 0


def test_a_forked_child_computes_on(cache: VolatileCache, made: list[Any]) -> None:
    with Cache(cache):
        get_sync(graph(made), "all")
        if (pid := os.fork()) == 0:
            right = get_sync(graph(made), "all") == ALL and len(made) == 4
            os._exit(0 if right else 1)
        assert os.waitpid(pid, 0)[1] == 0
