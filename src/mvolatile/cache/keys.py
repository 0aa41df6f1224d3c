"""Keys of calls: arguments as `functools.lru_cache` tells them apart, and objects of methods held weakly.

Hits make the same in C (`_core/cache/memoized.c`); who changes one changes the other.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeAlias, cast

__all__ = [
    "KEYWORDS",
    "Held",
    "MakeKey",
    "checked_key",
    "given_key",
    "make_key",
    "method_key",
    "names_its_object",
]

MakeKey: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Hashable]

PLAIN = frozenset({int, str})
"""One argument of these is its own key."""
KEYWORDS = object()
OWNERS = frozenset({"self", "cls"})


class Held(weakref.ref):  # type: ignore[type-arg]
    """How a method's key holds its object: its own type, since a user's key may begin with a weak reference, too."""

    __slots__ = ()


def make_key(args: tuple[Any, ...], kwargs: dict[str, Any], typed: bool = False) -> Hashable:
    """As `functools.lru_cache`: equal arguments given in the same way are one key."""
    key = args
    if kwargs:
        key += (KEYWORDS,)
        for pair in kwargs.items():
            key += pair
    if typed:
        key += (KEYWORDS, *map(type, args), *map(type, kwargs.values()))
    elif len(key) == 1 and type(key[0]) in PLAIN:
        return cast(Hashable, key[0])
    return key


def method_key(typed: bool) -> MakeKey:
    """As `make_key`, but the first argument is held weakly, if it can be held so."""

    def weak_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
        try:
            key = (Held(args[0]), *args[1:])
        except (TypeError, IndexError):
            return make_key(args, kwargs, typed)
        if kwargs or typed:
            whole: Any = make_key(args, kwargs, typed)
            return (key[0], *whole[1:])
        return key

    return weak_key


def names_its_object(function: Callable[..., Any]) -> bool:
    """Whether the first argument is the object that a method is called on. That is told by its name: what stands in
    a class may be a static method, and the function of a property or of a class method is never bound itself.
    """
    try:
        first = next(iter(inspect.signature(function).parameters), None)
    except (TypeError, ValueError):
        return False
    return first in OWNERS


def checked_key(function: Callable[..., Any], make: MakeKey) -> Callable[..., Hashable]:
    """The key of a call, for people: `TypeError` for arguments that the function does not take.

    A bound method hands on the attributes of its function, which does not know the object: ``obj.method.cache_key(1)``
    is ``Class.method.cache_key(1)``, without the object. It must not answer with the key of some other call.
    """
    try:
        signature = inspect.signature(
            function, follow_wrapped=False
        )  # a wrapper may take others than it passes on
    except (TypeError, ValueError):
        signature = None
    name = getattr(function, "__qualname__", repr(function))
    is_method = names_its_object(function)
    hint = f"; the object comes first: {name}.cache_key(object, ...)" if is_method else ""

    def cache_key(*args: Any, **kwargs: Any) -> Hashable:
        try:
            if signature is not None:
                signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}(): {error}{hint}") from None
        if is_method and args and not _may_own(args[0], name):
            raise TypeError(f"{name}(): {args[0]!r} has no such method{hint}")
        return make(args, kwargs)

    return cache_key


def _may_own(thing: object, name: str) -> bool:
    where, _, own = name.rpartition(".")
    if not where or where.endswith("<locals>"):
        return True  # written outside of a class: who knows where it was put
    classes = [*type.mro(type(thing)), *(type.mro(thing) if isinstance(thing, type) else ())]
    return any(found.endswith(own) for one in classes for found in vars(one))  # a private name is mangled


def given_key(key: Callable[..., Hashable]) -> MakeKey:
    """By a function of the user's."""
    return partial(_spread, key)


def _spread(key: Callable[..., Hashable], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    return key(*args, **kwargs)
