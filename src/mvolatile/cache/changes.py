"""Changes to one cache, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from .._core import forks
from .fork import catch_up

__all__ = ["Changes"]

T = TypeVar("T")


class Cache(Protocol):
    """What is changed."""

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

    def __init__(self, cache: Cache) -> None:
        self.lock = threading.RLock()
        self.torn = False
        self._cache = cache
        self._later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._forks = forks()  # when last all was as a fork leaves it

    def __call__(self, action: Callable[..., T], *arguments: Any) -> T:
        """Make one."""
        if self._forks != forks():
            catch_up()
        if self.is_ours:
            self._later.append((action, arguments))
            return cast(T, None)
        with self.lock:
            if self.torn:
                self._cache.mend()
            self.torn = True
            result = action(*arguments)
            while self._later:
                later, its = self._later.pop(0)
                later(*its)
            self.torn = False
        self._cache.changed()
        return result

    @property
    def is_ours(self) -> bool:
        """Whether this thread is in the middle of a change."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def after_fork(self) -> None:
        """The thread that had the lock may not be there."""
        self.lock = threading.RLock()
        self._later.clear()
        self.torn = True

    def caught_up(self) -> None:
        """All is as a fork leaves it."""
        self._forks = forks()
