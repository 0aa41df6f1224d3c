"""After a fork: the child's caches get locks of their own, since their owners may not be there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from . import flights

__all__ = ["follow", "live"]


class Forks(Protocol):
    """What is told of a fork."""

    def _after_fork(self) -> None: ...

    def _under_pressure(self) -> None: ...


_followed: weakref.WeakSet[Forks] = weakref.WeakSet()


def follow(cache: Forks) -> None:
    """Tell `cache` in every forked child, as long as it lives."""
    _followed.add(cache)


def live() -> list[Forks]:
    """All caches of this process."""
    return list(_followed)


def _in_child() -> None:
    flights.forget_other_threads()
    for cache in live():
        cache._after_fork()


os.register_at_fork(after_in_child=_in_child)
