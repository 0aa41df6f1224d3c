"""The arguments that a cache's user gives, checked: a wrong one is told at once, in its own name."""

from __future__ import annotations

import math
from operator import index

__all__ = ["checked_bound", "checked_ttl"]


def checked_ttl(ttl: float | None) -> float | None:
    """Seconds to live, perhaps infinitely many; None for no bound."""
    if ttl is None:
        return None
    if isinstance(ttl, str | bytes):  # which float() would read
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r}")
    try:
        seconds = float(ttl)
    except OverflowError:
        seconds = math.inf if ttl > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"ttl must be a number of seconds, not {ttl!r}") from None
    if not seconds >= 0:
        raise ValueError(f"ttl must not be negative, not {ttl!r}")
    return seconds


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
