"""A cache, or what holds one, goes to another process or into a copy."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mvolatile import SharedCache, VolatileCache
from mvolatile.cache import Compressed

from .conftest import Factory


def told(keys: list[Any]) -> None: ...


def half(value: Any) -> float:
    return 1000.5


PARAMETERS: list[dict[str, Any]] = [
    {},
    {"max_bytes": 1 << 20, "ttl": 60.0},
    {"codec": json, "on_lost": told, "ttl": half},
    {"codec": Compressed()},
]

WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {n}": lambda cache, n=n: pickle.loads(pickle.dumps(cache, n))  # type: ignore[misc]
        for n in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def shown(cache: Any) -> dict[str, Any]:
    given = dict(cache.__getstate__()["parameters"])
    given["codec"] = type(given["codec"]) if isinstance(given["codec"], Compressed) else given["codec"]
    return given


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", range(len(PARAMETERS)))
def test_parameters_go_along(cache_factory: Factory, kind: str, way: str, number: int) -> None:
    cache = cache_factory(**PARAMETERS[number])
    cache["k"] = ["value"]
    other = WAYS[way](cache)
    assert type(other) is type(cache)
    assert other is not cache
    assert shown(other) == shown(cache)
    assert other.name == cache.name
    assert ("k" in other) == (kind != "private"), "a shared one goes by its name"
    other["k"] = ["another"]
    assert other["k"] == ["another"]
    assert cache["k"] == (["value"] if kind == "private" else ["another"])
    other.close()
    assert not cache.closed
    cache.close()
    again = WAYS[way](cache)
    assert again.closed
    with pytest.raises(ValueError, match="nothing can be stored"):
        again["k"] = 1


class Tiles:
    """With parameters of its own, and a callback that is its own method."""

    def gone(self, keys: list[str]) -> None:
        self.seen += keys

    seen: list[str]


class PrivateTiles(Tiles, VolatileCache[str, bytes]):
    def __init__(self, root: str) -> None:
        self.root = root
        VolatileCache.__init__(self, on_lost=self.gone, name="tiles")
        self.seen = []


class SharedTiles(Tiles, SharedCache[str, bytes]):
    def __init__(self, root: str) -> None:
        self.root = root
        SharedCache.__init__(self, "tiles", on_lost=self.gone)
        self.seen = []


@pytest.mark.parametrize("way", WAYS)
def test_a_class_derived_from_it(kind: str, way: str) -> None:
    tiles = PrivateTiles("/tiles") if kind == "private" else SharedTiles("/tiles")
    tiles.seen.append("k")
    other = WAYS[way](tiles)
    assert type(other) is type(tiles)
    assert (other.root, other.seen, other.name) == ("/tiles", ["k"], "tiles")
    if way != "copy":
        assert shown(other)["on_lost"].__self__ is other
    tiles.close()
    other.close()
