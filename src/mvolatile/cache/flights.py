"""Single-flight: while one caller makes a missing value, others who want the same wait for it.

A purge makes many hot keys miss at once; without this every caller would rebuild each of them.

Nobody waits in a circle: A makes k1 and needs k2, B makes k2 and needs k1. Whoever would close the circle makes
the value itself. Callers are threads, or tasks of an event loop; who waits for whom is kept for all caches
together, since a circle may lead through several.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias

__all__ = ["Flights", "forget_other_threads"]

Caller: TypeAlias = object
"""A thread's identifier, or a task."""

waiting: dict[Caller, Flight] = {}
"""Who waits for which flight. Single dictionary operations, which are atomic; the walk is made under `circles`."""

circles = threading.Lock()


ORPHAN_SECONDS = 1.0
"""How often those that wait look whether the maker is still there."""


class Store(Protocol):
    """What making needs of a cache."""

    _missing: Any

    def _find(self, key: Any, /) -> Any: ...

    def _store_made(self, key: Any, value: Any, ttl: float | None, flight: Flight) -> None: ...


class Token:
    """Lives as long as the maker's frame: an interrupt between any two steps of the maker, even those that tell
    the waiters, cannot make anybody wait for a maker that is gone.
    """

    __slots__ = ("__weakref__",)


class Flight:
    """One value being made by `owner`. `stale` when the key was set, deleted or cleared meanwhile: then the
    value goes to those who wait, and is not stored.
    """

    __slots__ = ("alive", "done", "error", "key", "owner", "stale", "thread", "value", "waiters")

    def __init__(self, key: Hashable, owner: Caller, token: Token) -> None:
        self.key = key
        self.owner = owner
        self.thread = threading.get_ident()
        self.alive = weakref.ref(token)
        self.stale = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.waiters: list[Any] = []

    def land(self, value: Any, error: BaseException | None) -> None:
        """Tell everybody. After a KeyboardInterrupt or a cancellation, which are nobody else's business, the
        waiters try for themselves.
        """
        self.value, self.error = value, error
        self.done = True
        while self.waiters:
            with suppress(RuntimeError):  # its event loop was closed meanwhile
                self.waiters.pop()()

    def wake_on_landing(self, wake: Any) -> None:
        """`wake()` once it has landed, or at once if it has."""
        self.waiters.append(wake)
        if self.done and wake in self.waiters:
            self.waiters.remove(wake)
            wake()

    @property
    def retry(self) -> bool:
        """The maker was stopped, so there is no answer."""
        return not self.done or (self.error is not None and not isinstance(self.error, Exception))

    def result(self) -> Any:
        """The value that was made, or what was raised instead."""
        if self.error is not None:
            raise self.error
        return self.value

    @property
    def over(self) -> bool:
        """There is nothing to wait for (any more)."""
        return self.done or self.alive() is None


class Flights:
    """The flights of one cache, by key."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    def spoil(self, key: Hashable) -> None:
        """What is being made for `key` is out of date."""
        if self._flights and (flight := self._flights.get(key)) is not None:
            flight.stale = True

    def spoil_all(self) -> None:
        """Everything that is being made is out of date."""
        for flight in list(self._flights.values()):
            flight.stale = True

    def forget_other_threads(self) -> None:
        """In a forked child, only what this thread is making will ever be made."""
        me = threading.get_ident()
        for key, flight in list(self._flights.items()):
            if flight.thread != me:
                del self._flights[key]

    def _take_off(self, key: Hashable, owner: Caller, token: Token) -> tuple[bool, Flight]:
        """Our own flight, or another's to wait for."""
        mine = Flight(key, owner, token)
        while (flight := self._flights.setdefault(key, mine)) is not mine and flight.over:
            self._take_down(flight)
        return flight is mine, flight

    def _take_down(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def make(self, cache: Store, key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """The value of ``factory()``, made here or by another, and stored."""
        me = threading.get_ident()
        while True:
            token = Token()
            ours, flight = self._take_off(key, me, token)
            if ours:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = cache._find(key)  # another may have landed since we looked
                    if value is cache._missing:
                        value = factory()
                        cache._store_made(key, value, ttl, flight)
                    return value
                except BaseException as failure:
                    error = failure
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(value, error)
            if flight.thread == me or closes_a_circle(me, flight):
                return factory()
            try:
                landed = threading.Event()
                flight.wake_on_landing(landed.set)
                while not landed.wait(ORPHAN_SECONDS) and not flight.over:
                    pass
            finally:
                waiting.pop(me, None)
            if not flight.retry:
                return flight.result()

    async def amake(self, cache: Store, key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """As `make`, for tasks."""
        import asyncio  # slow to import, and here already where there are tasks

        me = asyncio.current_task()
        while True:
            token = Token()
            ours, flight = self._take_off(key, me, token)
            if ours:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = cache._find(key)
                    if value is cache._missing:
                        value = await _made(factory)
                        cache._store_made(key, value, ttl, flight)
                    return value
                except BaseException as failure:
                    error = failure
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(value, error)
            if flight.owner == threading.get_ident() or closes_a_circle(me, flight):
                return await _made(factory)
            try:
                loop = asyncio.get_running_loop()
                landed = asyncio.Event()
                flight.wake_on_landing(partial(loop.call_soon_threadsafe, landed.set))
                while not landed.is_set() and not flight.over:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(landed.wait(), ORPHAN_SECONDS)
            finally:
                waiting.pop(me, None)
            if not flight.retry:
                return flight.result()


async def _made(factory: Callable[[], Any]) -> Any:
    value = factory()
    return await value if isawaitable(value) else value


def closes_a_circle(caller: Caller, flight: Flight) -> bool:
    """Note that `caller` waits for `flight`, unless that would close a circle; then True, and nothing is noted."""
    with circles:
        next_flight: Flight | None = flight
        while next_flight is not None:
            if next_flight.owner == caller:
                return True
            next_flight = waiting.get(next_flight.owner)
        waiting[caller] = flight
        return False


def forget_other_threads() -> None:
    """In a forked child only this thread lives, and it waits for nobody."""
    global circles
    circles = threading.Lock()
    waiting.clear()
