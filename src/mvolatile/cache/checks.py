"""The arguments that a cache's user gives, checked: a wrong one is told at once, in its own name."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, MutableMapping
from contextlib import suppress
from datetime import timedelta
from operator import index
from typing import Any, Literal, TypeAlias, cast, get_args

from ..residence import Share, size_or_share

__all__ = [
    "Mode",
    "TimeToLive",
    "Unstorable",
    "checked_behind",
    "checked_bound",
    "checked_condition",
    "checked_grace",
    "checked_resident",
    "checked_tag",
    "checked_ttl",
    "checked_unstorable",
    "seconds_to_live",
]

TimeToLive: TypeAlias = float | timedelta | Callable[[Any], float | timedelta | None] | None
"""Seconds, or how long, or a function of the value that tells; None for what is said elsewhere, and else for ever."""

Mode: TypeAlias = Literal["back", "through"]
"""*Back*: stores do not wait until they are written there. *Through*: they do."""

Unstorable: TypeAlias = Literal["warn", "return", "raise"]
"""What becomes of a made value that cannot be stored: it is returned, and that is told or not; or it is an error."""


def checked_ttl(ttl: TimeToLive) -> TimeToLive:
    """Seconds to live, perhaps infinitely many, or the function that tells them; None for no bound."""
    return ttl if ttl is None or callable(ttl) else _seconds(ttl, f"not {ttl!r}")


def seconds_to_live(ttl: TimeToLive, value: Any) -> float | None:
    """Of this `value`. A function may find that its time is over already, and answer less than nothing."""
    if not callable(ttl):
        return None if ttl is None else _seconds(ttl, f"not {ttl!r}")
    told = ttl(value)
    if told is None:
        return None
    if isinstance(told, timedelta) and told < timedelta(0):
        return 0.0
    with suppress(TypeError):
        if told < 0:  # type: ignore[operator]
            return 0.0
    return _seconds(told, f"and {ttl!r} answered {told!r}")


def checked_grace(seconds: float | timedelta | None, what: str) -> float:
    """Seconds for which a value is kept beyond its time."""
    return 0.0 if seconds is None else _seconds(seconds, f"not {seconds!r}", what)


def checked_tag(tag: Hashable) -> Callable[[Any], Hashable] | None:
    """As making wants it: a function of the factory."""
    if tag is None:
        return None
    hash(tag)
    return lambda factory: tag


def checked_unstorable(unstorable: str) -> Unstorable:
    """One of the three."""
    if unstorable not in get_args(Unstorable):
        raise ValueError(f"unstorable must be 'warn', 'return' or 'raise', not {unstorable!r}")
    return cast(Unstorable, unstorable)


def _seconds(ttl: Any, given: str, what: str = "ttl") -> float:
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, str | bytes):  # which float() would read
        raise TypeError(f"{what} must be a number of seconds, {given}")
    try:
        seconds = float(ttl)
    except OverflowError:
        seconds = math.inf if ttl > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number of seconds, {given}") from None
    if not seconds >= 0:
        raise ValueError(f"{what} must not be negative, {given}")
    return seconds


def checked_resident(most: int | str | None) -> int | Share | None:
    """Bytes, or a share of the container's limit; None for no limit."""
    return None if most is None else size_or_share(most, "max_resident")


def checked_bound(bound: int | None, what: str) -> int | None:
    """A number of `what`; None for no bound."""
    if bound is None:
        return None
    try:
        number = index(bound)
    except TypeError:
        raise TypeError(f"{what} must be an integer or None, not {bound!r}") from None
    if number < 0:
        raise ValueError(f"{what} must not be negative, not {bound!r}")
    return number


def checked_condition(condition: Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    """A function of the value; None to store all."""
    if condition is not None and not callable(condition):
        raise TypeError(f"condition must be a function of the value, not {condition!r}")
    return condition


def checked_behind(behind: Any, mode: str) -> MutableMapping[str, Any] | None:
    """The mapping, if it is one."""
    if mode not in get_args(Mode):
        raise ValueError(f"behind_mode must be 'back' or 'through', not {mode!r}")
    wanted = ("__getitem__", "__setitem__", "__delitem__", "__iter__")
    if behind is not None and not all(hasattr(type(behind), what) for what in wanted):
        # Clients of servers have the first three: they would lack what clears, and how long a value is to live.
        raise TypeError(
            f"behind must be a mutable mapping of bytes, not {behind!r}: mvolatile.behind makes one of a client "
            "of Redis or memcached"
        )
    return cast("MutableMapping[str, Any] | None", behind)
