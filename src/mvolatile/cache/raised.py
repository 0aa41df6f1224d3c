"""An exception for another thread to raise. Raising writes to the traceback, and who catches may add notes."""

from __future__ import annotations

from operator import is_
from typing import Any

__all__ = ["own"]

HEAP_TYPE = 1 << 9
"""Of `type.__flags__`: made by Python code, or as if."""


def own(error: Exception) -> Exception:
    """A copy, with its own traceback and notes. What cannot be copied is shared."""
    try:
        copied = _copied(error)
        if (notes := getattr(error, "__notes__", None)) is not None:
            copied.__notes__ = list(notes)
        copied.__cause__, copied.__context__ = error.__cause__, error.__context__
        copied.__suppress_context__ = error.__suppress_context__
    except Exception:
        copied = error
    return copied.with_traceback(error.__traceback__)


def _copied(error: Exception) -> Exception:
    try:
        copied = _reconstructed(error)
        if type(copied) is type(error) and _same(copied.args, error.args):
            return copied
    except Exception:
        if not _is_all_python(type(error)):
            raise
    return _without_init(error) if _is_all_python(type(error)) else error


def _reconstructed(error: Exception) -> Exception:
    """As `copy.copy`, but not by the table of `copyreg`: tblib, which comes with Dask, has all exceptions of a program
    there, and makes them anew without their slots.
    """
    if (copier := getattr(type(error), "__copy__", None)) is not None:
        copied: Exception = copier(error)
        return copied
    reduced: Any = error.__reduce_ex__(4)
    maker, args, *state = reduced
    copied = maker(*args)
    if state:
        copied.__setstate__(state[0])
    return copied


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


def _is_all_python(kind: type) -> bool:
    """Whether all that such an exception has is its arguments and its dictionary: no slots, no fields in C."""
    built_in = next(base for base in kind.__mro__ if not base.__flags__ & HEAP_TYPE)
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    return built_in.__basicsize__ == BaseException.__basicsize__ and not slots


def _without_init(error: Exception) -> Exception:
    """Its ``__init__`` takes other arguments than those it passed on, or makes them anew."""
    kind = type(error)
    copied: Exception = BaseException.__new__(kind)
    copied.args = error.args
    vars(copied).update(vars(error))
    return copied
