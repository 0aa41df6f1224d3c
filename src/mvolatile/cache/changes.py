"""Changes to one cache, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from .._core import Lookup, forks
from .fork import catch_up

__all__ = ["Changes"]

T = TypeVar("T")


class Cache(Protocol):
    """What is changed."""

    has_news: bool
    """Whether `changed` has anything to do."""

    def mend(self) -> None:
        """A change was cut short."""
        ...

    def changed(self) -> None:
        """A change is over, and the lock let go."""
        ...


class Changes:
    """Makes changes under the lock of `cache`.

    A finalizer or a key's `__eq__` may call back while its own thread is in the middle of a change: such a
    change is made when the outer one is done (and answers None). A change that was cut short, by
    KeyboardInterrupt or in a forked child, is mended before the next.
    """

    def __init__(self, cache: Cache, lookup: Lookup) -> None:
        self.lock = threading.RLock()
        self.later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._cache = cache
        self._lookup = lookup
        self._forks = forks()  # when last all was as a fork leaves it

    def __call__(self, action: Callable[..., T], *arguments: Any) -> T:
        """Make one."""
        lookup = self._lookup
        if self._forks != forks():
            catch_up()
        lock = self.lock
        if lock._is_owned():  # type: ignore[attr-defined]
            self.later.append((action, arguments))
            return cast(T, None)
        with lock:
            if lookup.torn:
                self._cache.mend()
            lookup.disarm()
            result = action(*arguments)
            while self.later:
                later, its = self.later.pop(0)
                later(*its)
            lookup.torn = False
        if self._cache.has_news:
            self._cache.changed()
        return result

    @property
    def is_ours(self) -> bool:
        """Whether this thread is in the middle of a change."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def after_fork(self) -> None:
        """The thread that had the lock may not be there."""
        self.lock = threading.RLock()
        self.later.clear()
        self._lookup.disarm()

    def caught_up(self) -> None:
        """All is as a fork leaves it."""
        self._forks = forks()
