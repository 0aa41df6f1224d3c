"""A function with a `VolatileCache` of its own: what `@volatile_cache` makes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial, update_wrapper
from typing import Any

from .._core import MISSING, Memoized
from .cache import VolatileCache
from .engine import engine_of
from .identity import identity
from .keys import MakeKey, checked_key, given_key, make_key, method_key, names_its_object
from .memoize import make_whole, memoized
from .singleflight import Terms

__all__ = ["decorated"]


def _keys(
    function: Callable[..., Any],
    key: Callable[..., Hashable] | None,
    typed: bool,
) -> MakeKey | None:
    """How to make keys; None for `make_key`."""
    if key is not None:
        return given_key(key)
    if names_its_object(function):
        return method_key(typed)
    return partial(make_key, typed=True) if typed else None


def _coroutine(
    function: Callable[..., Any], cache: VolatileCache[Any, Any], make: MakeKey, terms: Terms
) -> Callable[..., Any]:
    """`function`, from `cache` where it can be."""

    async def cached(*args: Any, **kwargs: Any) -> Any:
        key = make(args, kwargs)
        value = engine_of(cache).find_or_miss(key)
        if value is not MISSING:
            return value
        return await engine_of(cache).singleflight.amake(key, partial(function, *args, **kwargs), terms)

    return cached


def _dress(
    function: Callable[..., Any],
    cache: VolatileCache[Any, Any],
    key: Callable[..., Hashable] | None,
    parameters: dict[str, Any],
    terms: Terms,
    made: Memoized | None = None,
) -> Any:
    """Make `made` whole, or a coroutine function: with a function's attributes, and those of its cache."""
    typed = parameters["typed"]
    key_of = _keys(function, key, typed)
    make, method = key_of or make_key, terms.weak and not typed
    cached: Any = made
    if made is None:
        cached = _coroutine(function, cache, make, terms)
    else:
        make_whole(made, function, cache, None if method else key_of, method, terms)
    update_wrapper(cached, function)
    cached.cache = cache
    cached.cache_key = checked_key(function, make)
    cached.cache_delete = lambda *args, **kwargs: bool(
        cache.delete_many((cached.cache_key(*args, **kwargs),))
    )
    cached.cache_info, cached.cache_clear = cache.cache_info, cache.clear
    cached.cache_parameters = lambda: dict(parameters)
    return cached


def decorated(
    function: Callable[..., Any],
    is_coroutine: bool,
    key: Callable[..., Hashable] | None,
    typed: bool,
    name: str | None,
    condition: Callable[[Any], object] | None,
    tag_of: Callable[[Any], Hashable] | None,
    options: dict[str, Any],
) -> Any:
    """`options` are the cache's, as its user gave them, and checked by it."""
    if not name:
        outlives = options["behind"] is not None
        name = identity(function) if outlives else getattr(function, "__qualname__", "cached")
    cache: VolatileCache[Any, Any] = VolatileCache(name=name, **options)
    parameters = {
        "maxsize": options["maxsize"],
        "typed": typed,
        "ttl": options["ttl"],
        "max_bytes": options["max_bytes"],
    }
    terms = Terms(None, condition, key is None and names_its_object(function), tag_of)
    dress = partial(_dress, function, cache, key, parameters, terms)
    return dress() if is_coroutine else memoized(function, dress)
