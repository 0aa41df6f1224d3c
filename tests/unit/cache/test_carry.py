"""A cache, or what holds one, goes to another process or into a copy: empty, with the same parameters."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mvolatile import VolatileCache, volatile_cache
from mvolatile._core import MISSING
from mvolatile.cache import Compressed
from mvolatile.cache.engine import engine_of


def told(keys: list[Any]) -> None: ...


def half(value: Any) -> float:
    return 0.5


PARAMETERS: list[dict[str, Any]] = [
    {},
    {"max_bytes": 1 << 20, "maxsize": 7, "ttl": 60.0, "name": "samples"},
    {"codec": json, "on_lost": told, "timer": time.time, "ttl": half},
    {"codec": Compressed(), "dump": False, "inherit": False},
]


def pickled(protocol: int, cache: Any) -> Any:
    return pickle.loads(pickle.dumps(cache, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {n}": partial(pickled, n) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def shown(cache: VolatileCache[Any, Any]) -> dict[str, Any]:
    given = dict(cache._given)
    given["codec"] = type(given["codec"]) if isinstance(given["codec"], Compressed) else given["codec"]
    return given


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_an_empty_cache_of_the_same_parameters_arrives(way: str, parameters: dict[str, Any]) -> None:
    cache: VolatileCache[str, Any] = VolatileCache(**parameters)
    cache["k"] = ["value"]
    other = WAYS[way](cache)
    assert type(other) is VolatileCache
    assert shown(other) == shown(cache)
    assert not other
    assert other.cache_info() == (0, 0, parameters.get("maxsize"), 0)
    other["k"] = ["another"]
    assert (cache["k"], other["k"]) == (["value"], ["another"])
    cache.resize(1 << 16)
    assert engine_of(WAYS[way](cache)).budget.max_bytes == 1 << 16
    cache.close()
    with pytest.raises(ValueError, match="nothing can be stored"):
        WAYS[way](cache)["k"] = 1


class Tiles(VolatileCache[str, bytes]):
    """With parameters of its own, and a callback that is its own method."""

    def __init__(self, root: str) -> None:
        self.root = root
        super().__init__(on_lost=self.gone, name="tiles")
        self.seen: list[str] = []

    def gone(self, keys: list[str]) -> None:
        self.seen += keys


@pytest.mark.parametrize("way", WAYS)
def test_a_class_derived_from_it(way: str) -> None:
    tiles = Tiles("/tiles")
    tiles.seen.append("k")
    other = WAYS[way](tiles)
    assert type(other) is Tiles
    assert (other.root, other.seen, other.name) == ("/tiles", ["k"], "tiles")
    if way != "copy":
        assert other._given["on_lost"].__self__ is other


class Samples:
    def __init__(self) -> None:
        self.cache: VolatileCache[int, bytes] = VolatileCache(name="samples", on_lost=self.lost)

    def lost(self, keys: list[int]) -> None: ...

    def __getitem__(self, n: int) -> bytes:
        return self.cache.get_or_set(n, lambda: bytes([n]) * 1000)


@dataclasses.dataclass
class Config:
    cache: VolatileCache[Any, Any] = dataclasses.field(default_factory=VolatileCache)


@volatile_cache
def module_level(n: int) -> int:
    return n * 2


DATASET = """
import multiprocessing, sys, mvolatile as mv
class Samples:
    def __init__(self): self.cache = mv.VolatileCache(name="samples", on_lost=self.lost)
    def lost(self, keys): ...
    def __getitem__(self, n): return self.cache.get_or_set(n, lambda: bytes([n]) * 1000)
@mv.volatile_cache
def double(n): return n * 2
def work(samples, function):
    assert not samples.cache
    assert samples[3] == samples.cache[3] == b"\\3" * 1000
    assert function(4) == 8
if __name__ == "__main__":
    samples = Samples()
    assert samples[1] == b"\\1" * 1000
    process = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(samples, double))
    process.start()
    process.join()
    assert process.exitcode == 0 and list(samples.cache) == [1]
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_holds_a_cache_goes_to_another_process(method: str, tmp_path: Path) -> None:
    script = tmp_path / "dataset.py"
    script.write_text(DATASET)
    subprocess.run([sys.executable, script, method], check=True)


def test_copies_of_what_holds_a_cache() -> None:
    config = Config()
    config.cache["k"] = 1
    assert not copy.deepcopy(config).cache
    assert not dataclasses.asdict(config)["cache"]
    samples = copy.deepcopy(Samples())
    assert samples.cache._given["on_lost"].__self__ is samples


def test_what_nobody_has_is_the_same_everywhere() -> None:
    for n in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(MISSING, n)) is MISSING
    assert copy.deepcopy(MISSING) is MISSING is copy.copy(MISSING)


def test_a_decorated_function_is_pickled_by_its_name() -> None:
    for n in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(module_level, n)) is module_level


NOTEBOOK = """
import asyncio, sys, cloudpickle, mvolatile as mv
calls = []
@mv.volatile_cache(ttl=lambda value: 60, condition=lambda value: value is not None, name="ours", maxsize=5)
def ours(x): return x * 2
@mv.volatile_cache(typed=True)
def typed(x, *, y=1): return x * y
@mv.volatile_cache(key=lambda x: x["id"])
def keyed(x): return x["id"]
@mv.volatile_cache
async def later(x): return x + 1
class Repo:
    @mv.volatile_cache
    def get(self, uid): return uid
    @classmethod
    @mv.volatile_cache
    def kind(cls): return cls.__name__
    @staticmethod
    @mv.volatile_cache
    def still(n): return n
def inside():
    @mv.volatile_cache
    def local(n): return n
    return local
local = inside()
ours(1), typed(1, y=2), Repo().get(1)
def task(n):
    repo = Repo()
    for _ in range(2):
        assert (ours(n), typed(n, y=3), keyed({"id": n}), asyncio.run(later(n))) == (2 * n, 3 * n, n, n + 1)
        assert (repo.get(n), Repo.kind(), Repo.still(n), local(n)) == (n, "Repo", n, n)
    infos = [f.cache_info() for f in (ours, typed, keyed, later, Repo.get, Repo.kind, Repo.still, local)]
    assert all(info[:2] == (1, 1) for info in infos), infos
    assert ours.cache.name == "ours" and ours.cache_parameters()["maxsize"] == 5
    assert ours.cache_delete(n) and Repo.get.cache_delete(repo, n)
    ours.cache_clear()
    assert ours.cache_info() == (0, 0, 5, 0)
    return "well"
sys.stdout.buffer.write(cloudpickle.dumps(task))
"""


def test_decorated_functions_of_a_notebook_go_by_value() -> None:
    pytest.importorskip("cloudpickle")
    sent = subprocess.run([sys.executable, "-c", NOTEBOOK], check=True, capture_output=True).stdout
    code = "import sys, pickle; print(pickle.loads(sys.stdin.buffer.read())(4))"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True)
    assert (done.stdout, done.stderr) == (b"well\n", b"")
