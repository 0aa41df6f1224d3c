"""`@volatile_cache`: `functools.lru_cache` without a size to guess.

What it makes is a plain function: binding, equality, introspection, pickling by name and speed are the interpreter's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import partial, update_wrapper
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

from .._core import MISSING
from .cache import VolatileCache
from .statistics import CacheInfo
from .sweep import Held
from .values import Codec

__all__ = ["CachedFunction", "volatile_cache"]

P = ParamSpec("P")
R = TypeVar("R")
MakeKey: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Hashable]

_KEYWORDS = object()
_PLAIN = frozenset({int, str})
_OWNERS = frozenset({"self", "cls"})


class CachedFunction(Protocol[P, R]):
    """What `volatile_cache` makes of a function: a function, with these attributes."""

    __wrapped__: Callable[P, R]
    """The function without its cache."""
    cache: VolatileCache[Any, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value for these arguments: stored, made by another caller meanwhile, or made now."""
        ...

    def __get__(self, instance: object, owner: type | None = None, /) -> Any: ...

    def cache_info(self) -> CacheInfo:
        """See `VolatileCache.cache_info`."""
        ...

    def cache_clear(self) -> None:
        """Forget everything, statistics too."""

    def cache_parameters(self) -> dict[str, Any]:
        """What the decorator was given: a new dictionary."""
        ...


def make_key(args: tuple[Any, ...], kwargs: dict[str, Any], typed: bool = False) -> Hashable:
    """As `functools.lru_cache`: equal arguments given in the same way are one key."""
    key = args
    if kwargs:
        key += (_KEYWORDS,)
        for pair in kwargs.items():
            key += pair
    if typed:
        key += (_KEYWORDS, *map(type, args), *map(type, kwargs.values()))
    elif len(key) == 1 and type(key[0]) in _PLAIN:
        return cast(Hashable, key[0])
    return key


def _weak_keys(cache: VolatileCache[Any, Any], typed: bool) -> MakeKey:
    """As `make_key`, but the first argument is held weakly, if it can be held so."""
    sweeper = cache._hand.sweeper

    def weak_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        try:
            key = (Held(args[0]), *args[1:])
        except (TypeError, IndexError):
            return make_key(args, kwargs, typed)
        sweeper.needed = True
        if kwargs or typed:
            whole: Any = make_key(args, kwargs, typed)
            return (key[0], *whole[1:])
        return key

    return weak_key


def _is_method(function: Callable[..., Any]) -> bool:
    """Whether the first argument is the object that a method is called on. That is told by its name: what stands in
    a class may be a static method, and the function of a property or of a class method is never bound itself.
    """
    try:
        first = next(iter(inspect.signature(function).parameters), None)
    except (TypeError, ValueError):
        return False
    return first in _OWNERS


def _keys(
    function: Callable[..., Any],
    cache: VolatileCache[Any, Any],
    key: Callable[..., Hashable] | None,
    typed: bool,
) -> MakeKey | None:
    """How to make keys; None for `make_key`."""
    if key is not None:
        return lambda args, kwargs: key(*args, **kwargs)
    if _is_method(function):
        return _weak_keys(cache, typed)
    return partial(make_key, typed=True) if typed else None


def _cached(function: Callable[..., Any], cache: VolatileCache[Any, Any], key_of: MakeKey | None) -> Any:
    """`function`, from `cache` where it can be. Three frames deep for a miss within a miss."""
    find, count_miss = cache._find, cache._count_miss

    def cached(*args: Any, **kwargs: Any) -> Any:
        if key_of is not None:
            key = key_of(args, kwargs)
        elif kwargs:
            key = make_key(args, kwargs)
        else:
            key = args[0] if len(args) == 1 and type(args[0]) in _PLAIN else args
        value = find(key)
        if value is not MISSING:
            return value
        count_miss()
        return cache._flights.make(cache, key, partial(function, *args, **kwargs), None)

    async def cached_coroutine(*args: Any, **kwargs: Any) -> Any:
        key = make_key(args, kwargs) if key_of is None else key_of(args, kwargs)
        return await cache.aget_or_set(key, partial(function, *args, **kwargs))

    return cached_coroutine if inspect.iscoroutinefunction(function) else cached


@overload
def volatile_cache(maxsize: Callable[P, R], typed: bool = ...) -> CachedFunction[P, R]: ...
@overload
def volatile_cache(
    maxsize: int | None = ...,
    typed: bool = ...,
    *,
    key: Callable[..., Hashable] | None = ...,
    ttl: float | None = ...,
    max_bytes: int | None = ...,
    name: str | None = ...,
    codec: Codec | None = ...,
    copy: bool | None = ...,
    on_purge: Callable[[list[Any]], object] | None = ...,
    dump: bool = ...,
    inherit: bool = ...,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def volatile_cache(
    maxsize: Any = None,
    typed: bool = False,
    *,
    key: Callable[..., Hashable] | None = None,
    ttl: float | None = None,
    max_bytes: int | None = None,
    name: str | None = None,
    codec: Codec | None = None,
    copy: bool | None = None,
    on_purge: Callable[[list[Any]], object] | None = None,
    dump: bool = True,
    inherit: bool = True,
) -> Any:
    """Cache what a function, method or coroutine function returns, as long as the kernel can spare the memory.

    >>> @volatile_cache
    ... def tile(x, y, zoom):
    ...     return bytes([x, y, zoom]) * 4096
    >>> tile(1, 2, 3) == tile(1, 2, 3)
    True
    >>> tile.cache_info().hits
    1

    Used as `functools.lru_cache` is, which it follows in `maxsize` (a bound on entries; here None by default),
    `typed`, ``cache_info()``, ``cache_clear()``, ``cache_parameters()`` and ``__wrapped__``. ``key(*args,
    **kwargs)`` makes the key from the arguments. The rest is for the `VolatileCache`, which is ``.cache``.

    Unlike there, a call that misses while another makes the same value waits for it. A hit is equal to what was
    returned, not the same object: one may change it, and no other hit knows. But a plain array is read-only on a
    hit, and writable in the call that made it; ``copy=True`` makes them alike. What a call raises is not stored.

    A first argument named ``self`` or ``cls`` is held weakly (unless `key` is given): a method's object is not kept
    alive, and the values go with the object they were made for.

    `TypeError` for what cannot be called, for a generator function, whose result can be used but once, and from
    calls with arguments that cannot be hashed or results that cannot be stored.
    """
    if callable(maxsize):
        return volatile_cache(None, typed)(maxsize)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("maxsize must be an integer, None, or the function to decorate")
    if key is not None and not callable(key):
        raise TypeError(f"key must be a function of the arguments, not {key!r}")
    bound = None if maxsize is None else max(0, maxsize)
    parameters = {"maxsize": bound, "typed": typed, "ttl": ttl, "max_bytes": max_bytes}

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        if not callable(function):
            raise TypeError(f"{function!r} is not a function to decorate")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator function; cache a list of what it yields instead")
        cache: VolatileCache[Any, Any] = VolatileCache(
            max_bytes,
            maxsize=bound,
            ttl=ttl,
            name=name or getattr(function, "__qualname__", "cached"),
            codec=codec,
            copy=copy,
            on_purge=on_purge,
            dump=dump,
            inherit=inherit,
        )
        cached: Any = _cached(function, cache, _keys(function, cache, key, typed))
        update_wrapper(cached, function)
        cached.cache = cache
        cached.cache_info, cached.cache_clear = cache.cache_info, cache.clear
        cached.cache_parameters = lambda: dict(parameters)
        return cast(CachedFunction[P, R], cached)

    return decorate
