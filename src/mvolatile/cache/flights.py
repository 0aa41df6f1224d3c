"""Single-flight: while one caller makes a missing value, others who want the same wait for it.

A purge makes many hot keys miss at once; without this every caller would rebuild each of them.

Nobody waits in a circle: A makes k1 and needs k2, B makes k2 and needs k1. Whoever would close the circle makes
the value itself. What a caller is making is kept in a context variable, which tasks and `asyncio.to_thread` copy: a
factory may ask through them. Who waits for whom is kept for all caches together, since a circle may lead through
several. A thread of a pool that does not copy the context is not seen to work for anybody.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias

from .fork import at_start_over, catch_up

__all__ = ["Flights", "forget_other_threads"]

Caller: TypeAlias = object
"""A thread's identifier, or an object of the call of a task: holding the task itself would keep a dead one."""

waiting: dict[Caller, Flight] = {}
"""Who waits for which flight. Single dictionary operations, which are atomic; the walk is made under `circles`."""

circles = threading.RLock()  # a finalizer may come while we hold it

ORPHAN_SECONDS = 1.0
"""How often those that wait look whether the maker is still there."""


class Crew:
    """Those who work on a flight: its maker, and whom that asks. Contexts outlive flights, so no value is kept here."""

    __slots__ = ("needs", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.needs: dict[Caller, Flight] = {}  # what some of them wait for


making: ContextVar[tuple[Crew, ...]] = ContextVar("mvolatile_making", default=())
"""The crews that this caller works for."""


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
    """One value being made. `stale` when the key was set, deleted or cleared meanwhile: then the
    value goes to those who wait, and is not stored.
    """

    __slots__ = ("alive", "crew", "done", "error", "key", "loop", "stale", "value", "waiters")

    def __init__(self, key: Hashable, token: Token, loop: Any = None) -> None:
        self.key = key
        self.loop = loop  # of the task that makes it; None for a thread
        self.crew = Crew()
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
        return self.done or self.alive() is None or (self.loop is not None and self.loop.is_closed())


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
        """In a forked child, only what this thread is making will ever be made; and its event loop is the parent's."""
        me = threading.get_ident()
        for key, flight in list(self._flights.items()):
            if flight.crew.thread != me or flight.loop is not None:
                del self._flights[key]

    def _take_off(self, mine: Flight) -> Flight:
        """Our own flight, or another's to wait for."""
        while (flight := self._flights.setdefault(mine.key, mine)) is not mine and flight.over:
            self._take_down(flight)
        return flight

    def _take_down(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def make(self, cache: Store, key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """The value of ``factory()``, made here or by another, and stored."""
        catch_up()
        me, crews = threading.get_ident(), making.get()
        while True:
            token = Token()
            mine = Flight(key, token)
            flight = self._take_off(mine)
            if flight is mine:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = cache._find(key)  # another may have landed since we looked
                    if value is cache._missing:
                        with _working_on(flight):
                            value = factory()
                        cache._store_made(key, value, ttl, flight)
                    return value
                except BaseException as failure:
                    error = failure
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(value, error)
            if closes_a_circle(me, flight, None, crews):
                return factory()
            try:
                landed = threading.Event()
                flight.wake_on_landing(landed.set)
                while not landed.wait(ORPHAN_SECONDS) and not flight.over:
                    pass
            finally:
                waits_no_more(me, crews)
            if not flight.retry:
                return flight.result()

    async def amake(self, cache: Store, key: Hashable, factory: Callable[[], Any], ttl: float | None) -> Any:
        """As `make`, for tasks."""
        import asyncio  # slow to import, and here already where there are tasks

        catch_up()
        me, loop, crews = object(), asyncio.get_running_loop(), making.get()
        while True:
            token = Token()
            mine = Flight(key, token, loop)
            flight = self._take_off(mine)
            if flight is mine:
                value: Any = None
                error: BaseException | None = None
                try:
                    value = cache._find(key)
                    if value is cache._missing:
                        with _working_on(flight):
                            value = await _made(factory)
                        cache._store_made(key, value, ttl, flight)
                    return value
                except BaseException as failure:
                    error = failure
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(value, error)
            if closes_a_circle(me, flight, loop, crews):
                return await _made(factory)
            try:
                landed = asyncio.Event()
                flight.wake_on_landing(partial(loop.call_soon_threadsafe, landed.set))
                while not landed.is_set() and not flight.over:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(landed.wait(), ORPHAN_SECONDS)
            finally:
                waits_no_more(me, crews)
            if not flight.retry:
                return flight.result()


@contextmanager
def _working_on(flight: Flight) -> Iterator[None]:
    token = making.set((*making.get(), flight.crew))
    try:
        yield
    finally:
        with suppress(ValueError):  # a dead task is closed in whatever context the collector finds it
            making.reset(token)


async def _made(factory: Callable[[], Any]) -> Any:
    value = factory()
    return await value if isawaitable(value) else value


def closes_a_circle(caller: Caller, flight: Flight, loop: Any, crews: tuple[Crew, ...]) -> bool:
    """Note that `caller`, who works for `crews`, waits for `flight`, and False; if that would close a circle, True, and
    nothing is noted.

    A thread that waits keeps all that is made in it waiting, its event loop's tasks too. A task (`loop` is its own)
    keeps those only who work as it does; but a thread that makes something further down its stack waits for us.
    """
    thread = threading.get_ident()
    with circles:
        met, todo = {id(flight)}, [flight]
        while todo:
            next_ = todo.pop()
            if next_.crew in crews or (next_.crew.thread == thread and (loop is None or next_.loop is None)):
                return True
            needed = [*next_.crew.needs.values(), waiting.get(next_.crew.thread)]
            for another in needed:
                if another is not None and id(another) not in met:
                    met.add(id(another))
                    todo.append(another)
        waiting[caller] = flight
        for crew in crews:
            crew.needs[caller] = flight
        return False


def waits_no_more(caller: Caller, crews: tuple[Crew, ...]) -> None:
    """It has what it waited for, or gave up."""
    waiting.pop(caller, None)
    with circles:
        for crew in crews:
            crew.needs.pop(caller, None)


def forget_other_threads() -> None:
    """In a forked child only this thread lives, and it waits for nobody."""
    global circles
    circles = threading.RLock()
    waiting.clear()


at_start_over(forget_other_threads)
