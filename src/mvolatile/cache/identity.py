"""Which function a call is of, told so that another process tells it alike and no other function is told so.

A name is not enough where values outlive the process, or are others' too. The bad schedules: a factory makes two
functions, whose names are one, and each gets the values of the other; two lambdas of a module; `_` of
`functools.singledispatch`; the same name in two programs' ``__main__``; a new release of the program, whose function
means something else, on values that the old one made. So the code is part of it, and what the function was made with.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import secrets
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from .keybytes import encode

__all__ = ["identity"]

MAINS = frozenset({"__main__", "__mp_main__"})  # the second is what a spawned child calls the first

_here = secrets.token_hex(8)
"""For programs that have no file: no other process runs the same one, but for those forked off."""


def identity(function: Callable[..., Any]) -> str:
    """As ``module.qualname@digest``. `TypeError` where it would be another's, too: for what has no name (a partial,
    an object that can be called), for a method of an object, and for a function made within another with values
    that cannot be keys.
    """
    bound = getattr(function, "__self__", None) if inspect.ismethod(function) else None
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str) or not (bound is None or isinstance(bound, type)):
        raise TypeError(f"{function!r} has no name that tells it from others like it: give name=")
    digest = hashlib.blake2b(digest_size=8)
    if bound is not None:
        digest.update(f"{bound.__module__}.{bound.__qualname__}".encode())
    for layer in _layers(function):
        digest.update(
            repr(list(_constant(getattr(layer, "__code__", None)))).encode("utf-8", "backslashreplace")
        )
    try:
        made_with = tuple(_made_with(function))
        digest.update(encode(made_with) + repr([type(value).__name__ for value in made_with]).encode())
    except TypeError as error:
        if "<" in name:  # <locals>, <lambda>
            raise TypeError(
                f"{name}() is made within another function, with values that do not tell it from others "
                f"made there ({error}): give name="
            ) from None
    return f"{_module_of(function)}.{name}@{digest.hexdigest()}"


def _layers(function: Any) -> Iterator[Any]:
    """A decorator's wrapper has the code of all functions that it wraps: what is within counts."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        function = getattr(function, "__wrapped__", None)


def _constant(thing: Any) -> Iterator[Any]:
    """What stands in the code, in an order that the seed of hashes does not change. `marshal` writes the same code
    in two ways, by how often its constants are referred to. Lines do not count.
    """
    if isinstance(thing, CodeType):
        yield thing.co_code
        yield thing.co_names, thing.co_varnames, thing.co_freevars
        for constant in thing.co_consts:
            yield list(_constant(constant))
    elif isinstance(thing, frozenset):
        yield "frozenset", sorted(str(list(_constant(item))) for item in thing)
    elif isinstance(thing, tuple):
        yield "tuple", [list(_constant(item)) for item in thing]
    else:
        yield repr(thing)


def _made_with(function: Any) -> Iterator[Any]:
    """Defaults, and what it took from around it: `TypeError` for a variable that is not set yet."""
    yield from getattr(function, "__defaults__", None) or ()
    yield tuple(sorted((getattr(function, "__kwdefaults__", None) or {}).items()))
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            raise TypeError("a variable that is not set yet") from None


def _module_of(function: Any) -> str:
    module = getattr(function, "__module__", None)
    if module not in MAINS:
        return str(module)
    code = getattr(inspect.unwrap(function), "__code__", None)
    path = code.co_filename if code is not None else ""
    return os.path.realpath(path) if os.path.isfile(path) else f"{_here}:{path}"
