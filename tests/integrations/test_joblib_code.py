"""joblib.Memory over the caches, when the code of a function changes: an old code's result is never given."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("joblib", reason="make integrations installs it")

import joblib

import mvolatile.integrations.joblib  # noqa: F401 - it registers itself

OLD = "def compute(number):\n    return ('old', number)\n"
NEW = "def compute(number):\n    return ('new', number)\n"
MOVED = "import os\n\n\n" + NEW


@pytest.fixture(params=["", "features"], ids=["process", "shared"])
def where(request: pytest.FixtureRequest, closing: None) -> str:
    return str(request.param)


def memory(where: str) -> Any:
    return joblib.Memory(where, backend="volatile", verbose=0)


def function(path: Path, code: str) -> Callable[[int], Any]:
    """As in a program that is started with this code."""
    path.write_text(code)
    linecache.checkcache()
    module: dict[str, Any] = {"__name__": path.stem}
    exec(compile(code, str(path), "exec"), module)
    compute: Callable[[int], Any] = module["compute"]
    return compute


def test_new_code_has_new_results(where: str, tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    here = memory(where)
    old = here.cache(function(path, OLD))
    assert [old(1), old(2), old(1)] == [("old", 1), ("old", 2), ("old", 1)]
    new = here.cache(function(path, NEW))
    assert [new(1), new(2), new(1)] == [("new", 1), ("new", 2), ("new", 1)]
    moved = here.cache(function(path, MOVED))
    assert moved.check_call_in_cache(1), "it only moved"


def test_the_record_of_the_code_is_lost_and_its_results_are_not(where: str, tmp_path: Path) -> None:
    """joblib then takes the results that are there for those of the new code."""
    path = tmp_path / "changing.py"
    here = memory(where)
    old = here.cache(function(path, OLD))
    old(1), old(2)
    volatile = here.store_backend.volatile
    assert volatile.delete_many([key for key in volatile if key[3] == "code"]) == 1
    new = memory(where).cache(function(path, NEW))
    assert [new(1), new(2)] == [("new", 1), ("new", 2)]


def test_two_programs_with_two_versions(closing: None, tmp_path: Path) -> None:
    """The older goes on, and stores: each finds its own."""
    path = tmp_path / "changing.py"
    old = memory("features").cache(function(path, OLD))
    old(1)
    new = memory("features").cache(function(path, NEW))
    new(2)
    assert [old(1), old(2), new(1), new(2)] == [("old", 1), ("old", 2), ("new", 1), ("new", 2)]


def test_another_programs_code_is_asked_for_meanwhile(closing: None, tmp_path: Path) -> None:
    """By a thread, for a function of the same name, before joblib compares."""
    path = tmp_path / "changing.py"
    here = memory("features")
    old = here.cache(function(path, OLD))
    old(1)
    new = here.cache(function(path, NEW))
    new(1)
    memory("features").cache(function(path, OLD))(1)  # another program
    assert "old" in here.store_backend.get_cached_func_code([new.func_id])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(new, 1).result() == ("new", 1)


def test_a_function_that_joblib_knows_from_another_store(where: str, tmp_path: Path) -> None:
    """Its code is asked for nowhere then."""
    made = []

    def compute(number: int) -> int:
        made.append(number)
        return number

    for _ in range(2):
        joblib.Memory(tmp_path, verbose=0).cache(compute)(1)
    cached = memory(where).cache(compute)
    assert cached(1) == cached(1) == 1
    assert made == [1, 1]
    assert cached.call_and_shelve(1).get() == 1
