"""The callable that `volatile_cache` makes of a function: `Memoized`, whose hits are one call of C.

It goes as functions go: pickled by its name; by value (cloudpickle, of a notebook's functions), with what it was made
of. Which of the two it is to be, its pickle leaves to the pickler, by being made of two functions that stand in its
dictionary under names that can be found: ``f._itself`` and ``f._fill``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .._core import MISSING, Memoized
from .cache import VolatileCache
from .engine import engine_of
from .keys import KEYWORDS, Held, MakeKey
from .singleflight import Terms
from .stopped import raise_if_stopped

__all__ = ["make_whole", "memoized"]


class Place:
    """Where the functions of one `Memoized` find it. In another process there is none yet."""

    def __init__(self) -> None:
        self.there: Memoized | None = None
        self.is_whole = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, ()


def memoized(function: Callable[..., Any], dress: Callable[[Memoized], object]) -> Memoized:
    """One that `dress` makes whole, here and, where it is sent by value, there."""
    place = Place()
    itself, fill = _its_functions(place, dress)
    for part in (itself, fill) if hasattr(function, "__qualname__") else ():
        part.__module__, part.__qualname__ = function.__module__, f"{function.__qualname__}.{part.__name__}"
    made = itself()
    fill(made)
    return made


def _its_functions(
    place: Place, dress: Callable[[Memoized], object]
) -> tuple[Callable[[], Memoized], Callable[[Memoized], None]]:
    def _itself() -> Memoized:
        if place.there is None:
            place.there = Memoized()
        return place.there

    def _fill(made: Memoized) -> None:
        if not place.is_whole:
            place.is_whole = True
            dress(made)
            made.__dict__.update(_itself=_itself, _fill=_fill)

    return _itself, _fill


def make_whole(
    made: Memoized,
    function: Callable[..., Any],
    cache: VolatileCache[Any, Any],
    key_of: MakeKey | None,
    method: bool,
    terms: Terms,
) -> None:
    """Have it look up in `cache`, and call `function` for what is not there. `key_of` makes keys; if it is None,
    they are the arguments as they are, with the object of a `method` held weakly.
    """

    def missed(key: Any, error: Exception | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        engine = engine_of(cache)
        if error is not None:
            raise_if_stopped(error)
            value = engine.find_or_miss(key)  # which tells of it
            if value is not MISSING:
                return value
        return engine.singleflight.make(key, partial(function, *args, **kwargs), terms)

    made.begin(cache, missed, key_of, method, KEYWORDS, Held)
