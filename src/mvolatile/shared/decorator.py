"""`@volatile_cache(shared="name")`: functions whose values all processes of a host have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import partial, update_wrapper
from typing import Any

from .._core import MISSING
from .client import SharedCache
from .making import access_of
from .values import (
    Terms,
    TimeToLive,
    checked_condition,
    checked_key,
    checked_ttl,
    given_key,
    identity,
    make_key,
    names_its_object,
)

__all__ = ["shared_cache"]

_caches: dict[Hashable, SharedCache[Any, Any]] = {}
"""By what they were made with: the functions of a module share one, and its connections."""


def _cache_of(name: str, given: dict[str, Any]) -> SharedCache[Any, Any]:
    """What is in there keeps all that it was made with alive, so that a number is of one thing."""
    made_with = (
        name,
        *(
            (what, value if isinstance(value, int | float | str) else id(value))
            for what, value in given.items()
        ),
    )
    found = _caches.get(made_with)
    if found is None or found.closed:
        found = _caches[made_with] = SharedCache(name, **given)
    return found


def shared_cache(
    shared: str,
    name: str | None,
    typed: bool,
    key: Callable[..., Hashable] | None,
    ttl: TimeToLive,
    condition: Callable[[Any], object] | None,
    tag_of: Callable[[Any], Hashable] | None,
    given: dict[str, Any],
) -> Callable[[Callable[..., Any]], Any]:
    """The decorator; see `mvolatile.volatile_cache`. `tag_of` tells the tag of a factory, `given` is for the cache.
    `TypeError` for methods without `key`: an object is no key.
    """
    terms = Terms(checked_ttl(ttl), checked_condition(condition), tag_of=tag_of)

    def decorate(function: Callable[..., Any]) -> Any:
        if (
            not callable(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise TypeError(f"{function!r} is no function whose result can be used again")
        if key is None and names_its_object(function):
            raise TypeError(f"{function!r} is a method, and its object no key that others have: give key=")
        make = partial(make_key, typed=typed) if key is None else given_key(key)
        whose = name or identity(function)
        cache = _cache_of(shared, given)

        def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
            return whose, make(args, kwargs)

        # asked for at each call: cloudpickle takes along what these have from around them, and it has locks
        def cached(*args: Any, **kwargs: Any) -> Any:
            wanted, access = key_of(args, kwargs), access_of(cache)
            value = access.find(wanted)
            if value is not MISSING:
                return value
            return access.make(wanted, partial(function, *args, **kwargs), terms)

        async def cached_coroutine(*args: Any, **kwargs: Any) -> Any:
            wanted, access = key_of(args, kwargs), access_of(cache)
            value = access.find(wanted)
            if value is not MISSING:
                return value
            return await access.amake(wanted, partial(function, *args, **kwargs), terms)

        made: Any = cached_coroutine if inspect.iscoroutinefunction(function) else cached
        update_wrapper(made, function)
        made.cache = cache
        made.cache_key = checked_key(function, key_of)
        made.cache_delete = lambda *args, **kwargs: bool(cache.delete_many([made.cache_key(*args, **kwargs)]))
        made.cache_info, made.cache_clear = cache.cache_info, cache.clear
        made.cache_parameters = lambda: {
            "shared": shared,
            "typed": typed,
            "ttl": ttl,
            "max_bytes": given["max_bytes"],
        }
        return made

    return decorate
