"""After a fork: the child's caches get locks of their own, since their owners may not be there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from . import circles, pressure

__all__ = ["follow"]


class Forks(Protocol):
    """What is told of a fork."""

    def _after_fork(self) -> None: ...


_followed: weakref.WeakValueDictionary[int, Forks] = weakref.WeakValueDictionary()


def follow(cache: Forks) -> None:
    """Tell `cache` in every forked child, as long as it lives."""
    _followed[id(cache)] = cache


def _in_child() -> None:
    circles.forget_other_threads()
    pressure.start_over_in_child()
    for cache in list(_followed.values()):
        cache._after_fork()


os.register_at_fork(after_in_child=_in_child)
