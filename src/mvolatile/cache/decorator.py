"""`@volatile_cache`: `functools.lru_cache` without a size to guess."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable
from functools import partial, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from .cache import MISSING, VolatileCache
from .statistics import CacheInfo
from .sweep import Held
from .values import Codec

__all__ = ["CachedFunction", "volatile_cache"]

P = ParamSpec("P")
R = TypeVar("R")

_KEYWORDS = object()
_PLAIN = frozenset({int, str})


def make_key(args: tuple[Any, ...], kwargs: dict[str, Any], typed: bool) -> Hashable:
    """As `functools.lru_cache`: equal arguments given in the same way are one key."""
    if not kwargs and not typed:
        if len(args) == 1 and type(args[0]) in _PLAIN:
            return cast(Hashable, args[0])
        return args
    key = args
    if kwargs:
        key += (_KEYWORDS, *(item for pair in kwargs.items() for item in pair))
    if typed:
        key += (_KEYWORDS, *map(type, args), *map(type, kwargs.values()))
    return key


class CachedFunction(Generic[P, R]):
    """A function with a `cache`. Called through an object, its key holds that object weakly: the cache does not
    keep it alive.
    """

    def __init__(
        self,
        function: Callable[P, R],
        cache: VolatileCache[Any, Any],
        key: Callable[..., Hashable] | None,
        typed: bool,
        parameters: dict[str, Any],
    ) -> None:
        update_wrapper(self, function)
        self.__wrapped__ = function
        self.cache = cache
        self._key = key
        self._typed = typed
        self._parameters = parameters
        self._async = inspect.iscoroutinefunction(function)
        if self._async:
            _mark_coroutine_function(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value for these arguments: stored, made by another caller meanwhile, or made now."""
        key = make_key(args, kwargs, self._typed) if self._key is None else self._key(*args, **kwargs)
        return cast(R, self._call(key, args, kwargs))

    def _call(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._async:
            return self.cache.aget_or_set(key, partial(self.__wrapped__, *args, **kwargs))
        value = self.cache._find(key)
        if value is not MISSING:
            return value
        self.cache._count_miss()
        return self.cache._flights.make(self.cache, key, partial(self.__wrapped__, *args, **kwargs), None)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else partial(self._call_method, instance)

    def _call_method(self, instance: object, *args: Any, **kwargs: Any) -> Any:
        if self._key is not None:
            return self._call(self._key(instance, *args, **kwargs), (instance, *args), kwargs)
        try:
            held: Any = Held(instance)
        except TypeError:
            held = instance
        else:
            self.cache._hand.sweeper.needed = True
        return self._call(make_key((held, *args), kwargs, self._typed), (instance, *args), kwargs)

    def cache_info(self) -> CacheInfo:
        """See `VolatileCache.cache_info`."""
        return self.cache.cache_info()

    def cache_clear(self) -> None:
        """Forget everything, statistics too."""
        self.cache.clear()

    def cache_parameters(self) -> dict[str, Any]:
        """What the decorator was given: a new dictionary."""
        return dict(self._parameters)

    def __repr__(self) -> str:
        return f"<cached {self.__wrapped__!r}>"

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__  # as lru_cache: by name

    def __copy__(self) -> CachedFunction[P, R]:
        return self

    def __deepcopy__(self, memo: object) -> CachedFunction[P, R]:
        return self


def _mark_coroutine_function(function: Any) -> None:
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        from asyncio import coroutines

        function._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]


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

    Unlike there, a call that misses while another makes the same value waits for it; what comes back is equal
    to what was returned, not the same object; and a method's object is not kept alive. What a call raises is not
    stored. `TypeError` for a generator function, whose result can be used but once, and from calls with arguments
    that cannot be hashed or results that cannot be stored.
    """
    if callable(maxsize):
        return volatile_cache(None, typed)(maxsize)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("maxsize must be an integer, None, or the function to decorate")
    bound = None if maxsize is None else max(0, maxsize)
    parameters = {"maxsize": bound, "typed": typed, "ttl": ttl, "max_bytes": max_bytes}

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is a generator function; cache a list of what it yields instead")
        cache: VolatileCache[Any, Any] = VolatileCache(
            max_bytes,
            maxsize=bound,
            ttl=ttl,
            name=name or getattr(function, "__qualname__", "cached"),
            codec=codec,
            on_purge=on_purge,
            dump=dump,
            inherit=inherit,
        )
        return CachedFunction(function, cache, key, typed, parameters)

    return decorate
