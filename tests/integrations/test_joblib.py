"""joblib.Memory over the caches: what goes is computed again, and never is an old code's result given."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("joblib", reason="make integrations installs it")

import joblib
import numpy as np
from joblib.memory import CacheWarning, MemorizedResult, expires_after

import mvolatile as mv
from mvolatile import _core
from mvolatile.integrations.joblib import VolatileStoreBackend

HERE = Path(__file__).parent
WHERE = {"process": "", "shared": "features"}

purges = pytest.mark.skipif(_core.tier() == "unsupported", reason="nothing is volatile here")


@pytest.fixture(params=WHERE)
def where(request: pytest.FixtureRequest, closing: None) -> str:
    return WHERE[request.param]


@pytest.fixture
def made() -> list[Any]:
    return []


def memory(where: str | Path | None, **options: Any) -> Any:
    return joblib.Memory(where, backend="volatile", verbose=0, **options)


def function(made: list[Any]) -> Callable[[Any], Any]:
    def compute(number: Any) -> Any:
        made.append(number)
        return {"of": number, "array": np.full(10_000, number)}

    return compute


# ---- as with files


def test_a_result_is_computed_once_and_is_the_callers_own(where: str, made: list[Any]) -> None:
    cached = memory(where).cache(function(made))
    for _ in range(3):
        got = cached(5)
        assert got["of"] == 5
        assert (got["array"] == 5).all()
        got["array"] += 1
        got["of"] = None
    assert cached(6)["of"] == 6
    assert made == [5, 6]
    assert cached.check_call_in_cache(5)
    assert not cached.check_call_in_cache(7)


@pytest.mark.parametrize("value", [None, b"", (), False, np.array(3)])
def test_any_value(where: str, value: Any) -> None:
    made = []
    cached = memory(where).cache(lambda: made.append(1) or value)
    assert cached() == value == cached()
    assert len(made) == 1


def test_clearing(where: str, made: list[Any]) -> None:
    here = memory(where)
    one, other = here.cache(function(made)), here.cache(sorted_list)
    one(1), one(2), other((2, 1))
    one.clear(warn=False)
    assert not one.check_call_in_cache(1)
    assert other.check_call_in_cache((2, 1))
    one(1)
    assert made == [1, 2, 1]
    reference = one.call_and_shelve(1)
    assert isinstance(reference, MemorizedResult)
    assert reference.get()["of"] == 1
    reference.clear()
    with pytest.raises(KeyError, match="not there any more"):
        reference.get()
    one(1)
    assert made == [1, 2, 1, 1]
    here.clear(warn=False)
    assert here.store_backend.get_items() == []
    assert other((2, 1)) == [1, 2]


def sorted_list(values: Any) -> Any:
    return sorted(values)


def test_clearing_leaves_what_is_others(closing: None, made: list[Any]) -> None:
    cache: mv.SharedCache[Any, Any] = mv.SharedCache("features")
    cache["mine"] = 1
    here = memory("features")
    here.cache(function(made))(1)
    here.clear(warn=False)
    assert list(cache) == ["mine"]


def test_validation_and_age(where: str, made: list[Any]) -> None:
    compute = function(made)
    seen = []
    cached = memory(where).cache(
        compute, cache_validation_callback=lambda metadata: seen.append(metadata) or False
    )
    cached(1), cached(1)
    assert made == [1, 1]
    assert seen[0]["input_args"] == {"number": "1"}
    assert seen[0]["duration"] >= 0
    cached = memory(where).cache(compute, cache_validation_callback=expires_after(hours=1))
    cached(1), cached(1)
    assert made == [1, 1]
    cached = memory(where).cache(compute, cache_validation_callback=expires_after(seconds=-1))
    cached(1)
    assert made == [1, 1, 1]


def test_reducing_the_size(where: str, made: list[Any]) -> None:
    here = memory(where)
    cached = here.cache(function(made))
    for number in range(10):
        cached(number)
    items = here.store_backend.get_items()
    assert len(items) == 10
    here.reduce_size(items_limit=4)
    assert sorted(number for number in range(10) if cached.check_call_in_cache(number)) == [6, 7, 8, 9]
    here.reduce_size(bytes_limit="200K")
    assert 1 <= len(here.store_backend.get_items()) <= 2
    assert here.store_backend.volatile.cache_info().bytes <= 200 << 10
    for number in range(10):
        cached(number)
    assert len(here.store_backend.get_items()) == 10, "the bound is what it was"
    here.reduce_size(age_limit=timedelta(hours=1))
    assert len(here.store_backend.get_items()) == 10
    here.reduce_size(age_limit=timedelta(0))
    assert here.store_backend.get_items() == []


@pytest.mark.parametrize("compress", [True, 3, ("gzip", 3)])
def test_compressed(where: str, made: list[Any], compress: Any) -> None:
    here = memory(where, compress=compress)
    cached = here.cache(function(made))
    cached(5)
    assert (cached(5)["array"] == 5).all()
    assert made == [5]
    assert here.store_backend.volatile.cache_info().bytes < 10_000
    plain = memory(where).cache(cached.func)
    assert (plain(5)["array"] == 5).all(), "who does not compress reads it, too"


def test_mmap_mode(where: str, made: list[Any]) -> None:
    cached = memory(where, mmap_mode="r").cache(lambda n: made.append(n) or np.arange(n))
    first, again = cached(50_000), cached(50_000)
    assert (first == again).all()
    assert made == [50_000]
    if not where:
        assert not first.flags.writeable
        assert np.shares_memory(first, again), "of the cache's own memory"


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_mmap_mode_of_what_is_not_stored(where: str, mode: str) -> None:
    """joblib loads at once what it stored."""
    lock = threading.Lock()
    for here, options in ((memory(where, mmap_mode=mode), {}), (memory(where), {"mmap_mode": mode})):
        cached = here.cache(lambda: lock, **options)
        with pytest.warns(CacheWarning, match="is not stored: .*pickle"):
            assert cached() is lock


def test_what_cannot_be_stored_is_returned(where: str) -> None:
    cached = memory(where).cache(lambda: threading.Lock())
    for _ in range(2):
        with pytest.warns(CacheWarning, match="result is not stored"):
            assert cached()
    small = joblib.Memory(where and "small", "volatile", verbose=0, backend_options={"max_bytes": 100_000})
    with pytest.warns(CacheWarning, match="result is not stored"):
        assert len(small.cache(lambda: b"x" * 200_000)()) == 200_000


def test_coroutines(where: str, made: list[Any]) -> None:
    async def compute(number: int) -> int:
        made.append(number)
        await asyncio.sleep(0)
        return number * 2

    async def main() -> list[int]:
        cached = memory(where).cache(compute)
        await asyncio.gather(*map(cached, range(5)))
        return list(await asyncio.gather(*map(cached, range(5))))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]
    assert made == [0, 1, 2, 3, 4]


def test_names_and_options(closing: None, runtime: Path) -> None:
    assert isinstance(memory("features").store_backend.volatile, mv.SharedCache)
    assert isinstance(memory(Path("features")).store_backend.volatile, mv.SharedCache)
    assert memory("features").store_backend.volatile.name == "features"
    assert memory(Path("with-joblib")).store_backend.volatile.name == "with-joblib"
    assert isinstance(memory("").store_backend.volatile, mv.VolatileCache)
    assert memory("").store_backend.volatile is memory("").store_backend.volatile
    assert memory(None).store_backend is None
    with pytest.raises(ValueError, match="1 to 64 letters"):
        memory("/tmp/joblib")
    with pytest.raises(TypeError, match="may be max_bytes, not size"):
        memory("", backend_options={"size": 1})


def test_what_a_result_cost(closing: None) -> None:
    here = memory("")
    cached = here.cache(lambda n: time.sleep(0.02) or n)
    for number in (1, 2, 2):
        cached(number)
    assert here.store_backend.volatile.cache_info().saved_seconds > 0.01


# ---- losses


@purges
def test_what_the_kernel_took_is_computed_again(where: str, made: list[Any]) -> None:
    here = memory(where)
    cached = here.cache(function(made))
    for number in range(20):
        cached(number)
    assert here.store_backend.volatile.purge() > 0
    for number in range(20):
        assert (cached(number)["array"] == number).all()
    assert len(made) > 20


def test_a_loss_between_two_questions(where: str, made: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """joblib asks whether a result is there, asks the program, and loads it."""
    here = memory(where)
    cached = here.cache(
        function(made), cache_validation_callback=lambda metadata: here.store_backend.volatile.clear() or True
    )
    cached(1)
    with caplog.at_level(logging.WARNING):
        assert cached(1)["of"] == 1
    assert made == [1], "it was kept"
    assert caplog.records == []
    assert cached(1)["of"] == 1
    assert made == [1, 1]


def test_a_result_without_its_metadata_is_none(where: str, made: list[Any]) -> None:
    """A callback could not judge it."""
    here = memory(where)
    cached = here.cache(function(made), cache_validation_callback=lambda metadata: metadata["time"] > 0)
    cached(1)
    volatile = here.store_backend.volatile
    volatile.delete_many([key for key in volatile if "metadata" in key])
    cached(1)
    assert made == [1, 1]


def test_nothing_is_kept_for_a_reference(closing: None, made: list[Any]) -> None:
    here = memory("")
    cached = here.cache(function(made))
    cached(1)
    reference = cached.call_and_shelve(1)
    here.store_backend.volatile.clear()
    with pytest.raises(KeyError):
        reference.get()


# ---- processes


def test_it_pickles(where: str, made: list[Any]) -> None:
    here = memory(where)
    cached = here.cache(sorted_list)
    cached((2, 1))
    again = pickle.loads(pickle.dumps(here.store_backend))
    assert isinstance(again, VolatileStoreBackend)
    assert (again.location, again.compress, again.mmap_mode) == (here.store_backend.location, False, None)
    reference = pickle.loads(pickle.dumps(cached.call_and_shelve((2, 1))))
    assert reference.get() == [1, 2]


def test_a_forked_child_finds_them(where: str, made: list[Any]) -> None:
    cached = memory(where).cache(function(made))
    cached(1)
    if (pid := os.fork()) == 0:
        os._exit(0 if cached(1)["of"] == 1 and made == [1] and cached(2)["of"] == 2 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_threads(where: str, made: list[Any]) -> None:
    cached = memory(where).cache(function(made))
    cached(0)
    wrong: list[int] = []

    def work() -> None:
        for number in range(60):
            if cached(number % 5)["of"] != number % 5:
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.slow
def test_parallel(runtime: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "computing" / "joblib_main.py"), str(tmp_path / "made")],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["right"]
    assert 10 <= told["computed"] <= 20
    assert told["again"]
    assert told["parent"]
    assert told["computed again"] == 0
    assert told["references"] == list(range(10))
    assert told["killed"]
    assert told["after"]
    assert told["after the purge"]
    assert told["left"] == 0
