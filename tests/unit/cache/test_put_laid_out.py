"""A plain store of what Python code has laid out, such as a pickle: the same way as bytes."""

from __future__ import annotations

from typing import Any

import pytest

from mvolatile import VolatileCache
from mvolatile.cache import pressure
from mvolatile.cache.engine import engine_of

from .helpers import is_valid, seal

VALUE = b"v" * 100


def armed(monkeypatch: pytest.MonkeyPatch) -> VolatileCache[Any, Any]:
    """A cache that is not told of pressure, which would be another change, and has an open segment."""
    monkeypatch.setattr(pressure, "listen", lambda cache: True)
    cache: VolatileCache[Any, Any] = VolatileCache()
    cache["first"] = cache["second"] = VALUE
    return cache


@pytest.mark.parametrize(
    "value", [None, 5, (1, "two"), {"a": [1]}, {1, 2}, memoryview(b"seen"), range(9), ["long"] * 3000]
)
@pytest.mark.parametrize("old", [None, VALUE, (1, 2)], ids=["new", "over bytes", "over a pickle"])
def test_what_was_laid_out_goes_the_same_way(value: Any, old: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = armed(monkeypatch)
    if old is not None:
        cache["k"] = old
    with monkeypatch.context() as patch:
        patch.setattr(engine_of(cache), "change", None)
        cache["k"] = value
        assert cache.get_or_set("l", lambda: value) == value
    assert cache["k"] == cache["l"] == value
    assert is_valid(cache)
    seal(cache)
    assert cache["k"] == cache["l"] == value
    assert len(cache) == 4


def test_what_was_laid_out_is_bytes_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = engine_of(armed(monkeypatch)).lookup
    for kind, data, error in ((16, b"x", ValueError), (0, "x", TypeError), (-1, b"x", OverflowError)):
        with pytest.raises(error):
            lookup.put_laid_out("k", kind, data, None, 0)  # type: ignore[arg-type]
    assert "k" not in lookup.index
