"""`@volatile_cache`: `functools.lru_cache` without a size to guess.

What it makes is a `Memoized` (see `memoize.py`), so that a hit is one call of C; of a coroutine function, another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, MutableMapping
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from .checks import Mode, TimeToLive, Unstorable, checked_condition, checked_grace, checked_tag
from .departures import Why
from .keys import names_its_object
from .lifetime import lifetime
from .statistics import CacheInfo
from .tags import NO_TAGS
from .values import Codec

if TYPE_CHECKING:
    from .cache import VolatileCache

__all__ = ["CachedFunction", "CachedMember", "volatile_cache"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


class CachedFunction(Protocol[P, R]):
    """What `volatile_cache` makes of a function: it binds, compares and pickles as one, with these attributes."""

    __wrapped__: Callable[P, R]
    """The function without its cache."""
    cache: VolatileCache[Any, Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value for these arguments: stored, made by another caller meanwhile, or made now."""
        ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None, /
    ) -> CachedMember[Q, P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> CachedFunction[P, R]: ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> Hashable:
        """The key in `cache` of the call with these arguments: ``f.cache[f.cache_key(1)] = value``.

        Of a method the object is the first argument, also where it is asked for at the object: a bound method has the
        attributes of its function. `TypeError` for arguments that the function would not take.
        """
        ...

    def cache_delete(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the value of the call with these arguments; whether there was one. A call that is making it meanwhile
        does not store it. Arguments as for `cache_key`.
        """
        ...

    def cache_info(self) -> CacheInfo:
        """See `VolatileCache.cache_info`."""
        ...

    def cache_clear(self) -> None:
        """Forget everything, statistics too."""

    def cache_parameters(self) -> dict[str, Any]:
        """What the decorator was given: a new dictionary."""
        ...


class CachedMember(Protocol[Q, P, R]):
    """A `CachedFunction` as it is found at an object or a class: bound to it if it is a method."""

    # Whether it is bound depends on what stands above it (@classmethod, @staticmethod), which its type does not tell.
    __self__: Any
    __func__: Any
    __wrapped__: Callable[P, R]
    cache: VolatileCache[Any, Any]

    @overload
    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the function."""
        ...

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> Hashable:
        """See `CachedFunction.cache_key`."""
        ...

    def cache_delete(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """See `CachedFunction.cache_delete`."""
        ...

    def cache_info(self) -> CacheInfo:
        """See `VolatileCache.cache_info`."""
        ...

    def cache_clear(self) -> None:
        """Forget everything, of all objects."""

    def cache_parameters(self) -> dict[str, Any]:
        """What the decorator was given: a new dictionary."""
        ...


def _tag_of(tag: Hashable | Callable[..., Hashable]) -> Callable[[Any], Hashable] | None:
    """The tag of a call, of the factory that makes its value."""
    if not callable(tag):
        return checked_tag(tag)
    return lambda factory: tag(*factory.args, **factory.keywords)


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Whether a call of it is of that kind: a function's, or that of an object's ``__call__``."""
    return kind(function) or (not isinstance(function, type) and kind(type(function).__call__))


def _refuse_descriptor(thing: object) -> None:
    if isinstance(thing, classmethod | staticmethod | property):
        raise TypeError(f"volatile_cache stands below @{type(thing).__name__}, next to the function")


def _refuse(function: Any) -> None:
    """What cannot be cached, or would not be what its user thinks."""
    _refuse_descriptor(function)
    if not callable(function):
        raise TypeError(f"{function!r} is not a function to decorate")
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise TypeError(f"{function!r} is a generator function; cache a list of what it yields instead")


@overload
def volatile_cache(maxsize: Callable[P, R], typed: bool = ...) -> CachedFunction[P, R]: ...
@overload
def volatile_cache(
    maxsize: int | None = ...,
    typed: bool = ...,
    *,
    key: Callable[..., Hashable] | None = ...,
    ttl: TimeToLive = ...,
    condition: Callable[[Any], object] | None = ...,
    max_bytes: int | None = ...,
    max_resident: int | str | None = ...,
    name: str | None = ...,
    codec: Codec | None = ...,
    copy: bool | None = ...,
    on_lost: Callable[[list[Any]], object] | None = ...,
    on_evict: Callable[[Any, Why], object] | None = ...,
    dump: bool = ...,
    inherit: bool = ...,
    timer: Callable[[], float] = ...,
    stale: float | timedelta | None = ...,
    stale_if_error: float | timedelta | None = ...,
    tag: Hashable | Callable[..., Hashable] = ...,
    unstorable: Unstorable = ...,
    behind: MutableMapping[str, Any] | None = ...,
    behind_mode: Mode = ...,
    shared: str | None = ...,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def volatile_cache(
    maxsize: Any = None,
    typed: bool = False,
    *,
    key: Callable[..., Hashable] | None = None,
    ttl: TimeToLive = None,
    condition: Callable[[Any], object] | None = None,
    max_bytes: int | None = None,
    max_resident: int | str | None = None,
    name: str | None = None,
    codec: Codec | None = None,
    copy: bool | None = None,
    on_lost: Callable[[list[Any]], object] | None = None,
    on_evict: Callable[[Any, Why], object] | None = None,
    dump: bool = True,
    inherit: bool = True,
    timer: Callable[[], float] = lifetime,
    stale: float | timedelta | None = None,
    stale_if_error: float | timedelta | None = None,
    tag: Hashable | Callable[..., Hashable] = None,
    unstorable: Unstorable = "warn",
    behind: MutableMapping[str, Any] | None = None,
    behind_mode: Mode = "back",
    shared: str | None = None,
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

    `condition` is a function of the result: what it finds false is returned and not stored. `ttl` may be a number of
    seconds, a `timedelta`, or a function of the result that answers one of these, or None for ever. ``cache_key(*args,
    **kwargs)`` is the key of a call, ``cache_delete(*args, **kwargs)`` forgets it; of a method, the object comes
    first.

    `tag` is one for all results, or a function of the arguments: ``f.cache.delete_tag(tag)`` deletes all that have
    it. `stale`, `stale_if_error`, `unstorable` and `behind` are told at `VolatileCache`.

    Unlike there, a call that misses while another makes the same value waits for it. A hit is equal to what was
    returned, not the same object: one may change it, and no other hit knows. But a plain array is read-only on a
    hit, and writable in the call that made it; ``copy=True`` makes them alike. Who waited gets what a hit gives. What
    a call raises is not stored. What cannot be stored is returned, and told once by a `VolatilityWarning`.

    With ``shared="name"`` it is a `SharedCache` of that name: one for all processes of a host, and each value is made
    once there. Arguments must be what can be its keys, and tags too; all that it takes may be given beside it, and
    `key`, `typed`, `condition`, `tag` and `name`. Functions that share one have keys of their own.

    There and `behind`, values are found again by the function's module, name, code and defaults: by a changed function
    none of the old ones. `name` stands in place of all these: it is needed for a function that is made within another
    with values that cannot be keys, and says that changes of the code do not matter.

    A first argument named ``self`` or ``cls`` is held weakly (unless `key` is given): a method's object is not kept
    alive, and the values go with the object they were made for.

    Coroutine functions run under asyncio, trio and anyio. Pickled by name, as a function; sent by value (cloudpickle)
    with an empty cache.

    `TypeError` for what cannot be called, for a generator function, whose result can be used but once, and from
    calls with arguments that cannot be hashed.
    """
    _refuse_descriptor(maxsize)
    if callable(maxsize):
        return volatile_cache(None, typed)(maxsize)
    if shared is not None:
        own = {"maxsize": maxsize, "max_resident": max_resident, "copy": copy, "on_evict": on_evict}
        changed = [
            *(what for what, value in own.items() if value is not None),
            *(["dump"] if not dump else []),
        ]
        changed += [*(["inherit"] if not inherit else []), *(["timer"] if timer is not lifetime else [])]
        if changed:
            raise TypeError(f"a shared cache has no {', '.join(changed)}")
        # The room above this one, which knows it: loaded by who asks for it alone.
        share = import_module("mvolatile.shared.decorator").shared_cache
        given: dict[str, Any] = {
            "max_bytes": max_bytes,
            "codec": codec,
            "on_lost": on_lost,
            "unstorable": unstorable,
            "stale": checked_grace(stale, "stale"),
            "stale_if_error": checked_grace(stale_if_error, "stale_if_error"),
        }
        given |= {"behind": behind, "behind_mode": behind_mode}
        if tag is not None and behind is not None:
            raise ValueError(NO_TAGS)
        return share(shared, name, typed, key, ttl, condition, _tag_of(tag), given)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("maxsize must be an integer, None, or the function to decorate")
    if key is not None and not callable(key):
        raise TypeError(f"key must be a function of the arguments, not {key!r}")
    tag_of = _tag_of(tag)
    if tag is not None and behind is not None:
        raise ValueError(NO_TAGS)
    bound = None if maxsize is None else max(0, maxsize)
    checked_condition(condition)
    from .decorated import decorated  # who decorates with `shared` alone has no `VolatileCache`

    options = {
        "max_bytes": max_bytes,
        "maxsize": bound,
        "max_resident": max_resident,
        "ttl": ttl,
        "codec": codec,
        "copy": copy,
        "on_lost": on_lost,
        "on_evict": on_evict,
        "dump": dump,
        "inherit": inherit,
        "timer": timer,
        "stale": stale,
        "stale_if_error": stale_if_error,
        "unstorable": unstorable,
        "behind": behind,
        "behind_mode": behind_mode,
    }

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        _refuse(function)
        if behind is not None and key is None and names_its_object(function):
            raise TypeError(f"{function!r} is a method, and its object no key behind the cache: give key=")
        is_coroutine = _is(inspect.iscoroutinefunction, function)
        return cast(
            CachedFunction[P, R],
            decorated(function, is_coroutine, key, typed, name, condition, tag_of, options),
        )

    return decorate
