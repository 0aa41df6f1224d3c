"""What the backends have in common: which cache is behind one, and what a store that cannot be does there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ..cache import VolatileCache
from ..errors import TooLargeError
from ..shared import SharedCache

__all__ = ["Cache", "add", "new_cache", "one_of_process", "put", "raise_as_pickle_does"]

Cache = VolatileCache[Any, Any] | SharedCache[Any, Any]
T = TypeVar("T")

_opened: dict[tuple[Any, ...], Cache] = {}


def new_cache(
    name: str,
    shared: str | None,
    max_bytes: int | None,
    ttl: float | None = None,
    *,
    copy: bool | None = True,
) -> Cache:
    """A cache of this process's own, or with `shared` the host's of that name.

    What a hit gives is the caller's own and writable, as from backends that pickle: frameworks' programs count on it.
    But where nothing of a hit reaches the program, `copy` may say otherwise.
    """
    if shared is None:
        return VolatileCache(max_bytes, name=name, ttl=ttl, copy=copy)
    return SharedCache(shared, max_bytes=max_bytes, ttl=ttl)


def one_of_process(
    name: str, shared: str | None, max_bytes: int | None, *, copy: bool | None = True
) -> Cache:
    """As `new_cache`, and the same one for the same parameters, for as long as the process lives: frameworks make a
    backend for each thread, or each request.
    """
    key = (name, shared, max_bytes, copy)
    while True:  # without a lock: a child that is forked while a thread has it would wait for ever
        cache = _opened.get(key)
        if cache is not None and not cache.closed:
            return cache
        if cache is not None and _opened.get(key) is cache:
            _opened.pop(key, None)
        made = new_cache(name, shared, max_bytes, copy=copy)
        if _opened.setdefault(key, made) is made:
            return made
        made.close()


def put(cache: Cache, key: Any, value: Any, ttl: float | None) -> bool:
    """Store it. False for a value that is larger than the cache may be: then the key has none, as with memcached. A
    page should not fail for it. A value that does not pickle raises what pickling it raised.
    """
    return _stored(lambda: cache.set(key, value, ttl=ttl), True)


def add(cache: Cache, key: Any, value: Any, ttl: float | None) -> bool:
    """As `put`, if the key has no value, and whether it had none. What lives no time is not stored."""
    if ttl is not None and ttl <= 0:
        return key not in cache
    return _stored(lambda: cache.add(key, value, ttl=ttl))


def _stored(store: Callable[[], bool | None], done: bool = False) -> bool:
    try:
        return store() or done
    except TooLargeError:
        return False
    except TypeError as error:
        raise_as_pickle_does(error)


def raise_as_pickle_does(error: TypeError) -> NoReturn:
    """Frameworks promise a `pickle.PickleError`, or what an object's own ``__reduce__`` raises."""
    if isinstance(error.__cause__, Exception):
        raise error.__cause__ from None
    raise error
