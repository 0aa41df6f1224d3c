"""Calls: each is one making of a missing value, for which others who want it wait."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import Any

from .._core import forks
from .circles import Crew
from .loops import is_closed
from .raised import own

__all__ = ["Call", "Calls", "Token"]


class Token:
    """Lives as long as the maker's frame: an interrupt between any two steps of the maker, even those that tell
    the waiters, cannot make anybody wait for a maker that is gone.
    """

    __slots__ = ("__weakref__",)


class Call:
    """One value being made. `stale` when the key was set, deleted or cleared meanwhile: then the value goes to those
    who wait already, and is not stored.

    It never has the value, which is its maker's, who may change it: those who wait read what was stored. Where it was
    not stored they make theirs of a `layout`, which the maker left before it returned.
    """

    __slots__ = (
        "alive",
        "crew",
        "done",
        "error",
        "forks",
        "key",
        "layout",
        "loop",
        "seconds",
        "stale",
        "tag",
        "waiters",
    )

    def __init__(self, key: Hashable, token: Token, loop: Any = None, tag: Hashable = None) -> None:
        self.key = key
        self.tag = tag
        self.loop = loop  # of the task that makes it; None for a thread
        self.forks = forks()
        self.crew = Crew()
        self.stale = False
        self.seconds: float | None = None  # that its making took, without that of other values
        self.error: BaseException | None = None
        self.layout: Any = None
        self.done = False
        self.waiters: list[Callable[[], object]] = []
        self.alive = weakref.ref(token)

    def complete(self, error: BaseException | None, layout: Any) -> None:
        """Tell everybody. After a KeyboardInterrupt or a cancellation, which are nobody else's business, the
        waiters try for themselves.
        """
        if self.waiters:
            # A copy: before a waiter looks at it, its maker's caller may have caught it and written to it.
            self.error = own(error) if isinstance(error, Exception) else error
            self.layout = layout
        self.done = True
        _wake(self.waiters)

    def wake_when_over(self, wake: Callable[[], object]) -> None:
        """`wake()` once it is done or its maker is gone, or at once if so it is."""
        self.waiters.append(wake)
        if (token := self.alive()) is not None:
            self.alive = weakref.ref(token, partial(_wake, self.waiters))
            del token
        if self.over and wake in self.waiters:
            self.let_sleep(wake)
            wake()

    def let_sleep(self, wake: Callable[[], object]) -> None:
        """Who waited has gone."""
        with suppress(ValueError):
            self.waiters.remove(wake)

    @property
    def over(self) -> bool:
        """There is nothing to wait for (any more): it is done; or the maker's frame is gone, or its loop closed; or
        it is of another process, and came by a fork that Python was not told of, but its thread did not.
        """
        if self.done or self.alive() is None:
            return True
        if self.loop is not None and is_closed(self.loop):
            return True
        return self.forks != forks() and self.crew.thread != threading.get_ident()


def _wake(waiters: list[Callable[[], object]], _: object = None) -> None:
    while waiters:
        # Another may take the last one between the two steps, and an event loop may be closed.
        with suppress(IndexError, RuntimeError):
            waiters.pop()()


class Calls(dict[Hashable, Call]):
    """Those of one cache that are under way, by key."""

    __slots__ = ()

    def join(self, mine: Call) -> Call:
        """Our own call, or another's to wait for. Not one that is out of date: who asks after a key was deleted must
        not get what was begun before.
        """
        while (call := self.setdefault(mine.key, mine)) is not mine and (call.stale or call.over):
            self.forget(call)
        return call

    def forget(self, call: Call | None) -> None:
        """Whoever comes now finds what was stored, or makes it."""
        if call is not None and self.get(call.key) is call:
            del self[call.key]

    def invalidate(self, key: Hashable) -> None:
        """What is being made for `key` is out of date."""
        if self and (call := self.get(key)) is not None:
            call.stale = True

    def invalidate_tagged(self, tag: Hashable) -> None:
        """What is being made with that tag is out of date."""
        for call in list(self.values()):
            if call.tag is not None and call.tag == tag:
                call.stale = True

    def invalidate_all(self) -> None:
        """Everything that is being made is out of date."""
        for call in list(self.values()):
            call.stale = True

    def forget_other_threads(self) -> None:
        """In a forked child, only what this thread is making will ever be made; and its event loop is the parent's."""
        me = threading.get_ident()
        for key, call in list(self.items()):
            if call.crew.thread != me or call.loop is not None:
                del self[key]
