"""Single-flight: while one caller makes a missing value, others who want the same wait for it.

A purge makes many hot keys miss at once; without this every caller would rebuild each of them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any, NamedTuple, Protocol

from .._core import forks
from .circles import Crew, closes_a_circle, making, waits_no_more
from .fork import catch_up
from .loops import can_wait, is_closed, running, wait
from .raised import own

__all__ = ["Flights", "Terms"]

ORPHAN_SECONDS = 1.0
"""How often those that wait look whether the maker is still there."""

TRIES = 2
NOTHING: Any = object()


class Store(Protocol):
    """What making needs of a cache."""

    _missing: Any

    def _find_or_miss(self, key: Any, /) -> Any: ...

    def _count_hit(self) -> None: ...

    def _count_miss(self) -> None: ...

    def _store_made(self, key: Any, value: Any, terms: Terms, flight: Flight) -> None: ...

    def _holds(self, key: Any, /) -> bool: ...

    def _lay_out(self, value: Any, /) -> Any: ...

    def _make_again(self, layout: Any, /) -> Any: ...

    def _give_way_to_program(self) -> None: ...


class Terms(NamedTuple):
    """On what terms a made value is stored: how long it lives, whether it is stored at all, and whether its key may
    hold an object weakly.
    """

    ttl: Any = None
    condition: Callable[[Any], object] | None = None
    weak: bool = False


class Token:
    """Lives as long as the maker's frame: an interrupt between any two steps of the maker, even those that tell
    the waiters, cannot make anybody wait for a maker that is gone.
    """

    __slots__ = ("__weakref__",)


class Flight:
    """One value being made. `stale` when the key was set, deleted or cleared meanwhile: then the value goes to those
    who wait already, and is not stored.

    It never has the value, which is its maker's, who may change it: those who wait read what was stored. Where it was
    not stored they make theirs of a `layout`, which the maker left before it returned.
    """

    __slots__ = ("alive", "crew", "done", "error", "forks", "key", "layout", "loop", "stale", "waiters")

    def __init__(self, key: Hashable, token: Token, loop: Any = None) -> None:
        self.key = key
        self.loop = loop  # of the task that makes it; None for a thread
        self.forks = forks()
        self.crew = Crew()
        self.stale = False
        self.error: BaseException | None = None
        self.layout: Any = None
        self.done = False
        self.waiters: list[Callable[[], object]] = []
        self.alive = weakref.ref(token)

    def land(self, error: BaseException | None, layout: Any) -> None:
        """Tell everybody. After a KeyboardInterrupt or a cancellation, which are nobody else's business, the
        waiters try for themselves.
        """
        if self.waiters:
            # A copy: before a waiter looks at it, its maker's caller may have caught it and written to it.
            self.error = own(error) if isinstance(error, Exception) else error
            self.layout = layout
        self.done = True
        _wake(self.waiters)

    def wake_on_landing(self, wake: Callable[[], object]) -> None:
        """`wake()` once it has landed or its maker is gone, or at once if so it is."""
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
        """There is nothing to wait for (any more): it has landed; or the maker's frame is gone, or its loop closed; or
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
        """Our own flight, or another's to wait for. Not one that is out of date: who asks after a key was deleted must
        not get what was begun before.
        """
        while (flight := self._flights.setdefault(mine.key, mine)) is not mine and (
            flight.stale or flight.over
        ):
            self._take_down(flight)
        return flight

    def _take_down(self, flight: Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def _leave(self, cache: Store, flight: Flight, value: Any) -> Any:
        """What those need who wait, if `value` was not stored: a layout, or `NOTHING` if it cannot be laid out. They do
        not get the object itself, which its maker may change under them.
        """
        self._take_down(flight)  # who comes now finds what was stored, or makes it
        if cache._holds(flight.key):
            return None
        layout = cache._lay_out(value)
        return NOTHING if layout is None else layout

    def make(self, cache: Store, key: Hashable, factory: Callable[[], Any], terms: Terms) -> Any:
        """The value of ``factory()``, made here and stored, or made by another."""
        catch_up()
        me, crews = threading.get_ident(), making.get()
        tries = TRIES
        while True:
            token = Token()
            mine = Flight(key, token)
            flight = self._take_off(mine)
            if flight is mine:
                error = layout = None
                try:
                    value = cache._find_or_miss(key)  # another may have landed since we looked
                    if value is cache._missing:
                        cache._count_miss()
                        with _working_on(flight):
                            value = factory()
                        cache._store_made(key, value, terms, flight)
                        if flight.waiters:
                            layout = self._leave(cache, flight, value)
                    return value
                except BaseException as failure:
                    error = failure
                    if isinstance(failure, MemoryError):
                        cache._give_way_to_program()
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(error, layout)
                    del (
                        error,
                        flight,
                        mine,
                    )  # the traceback has this frame: a circle that would keep all it has
            landed = threading.Event()
            if not tries or closes_a_circle(me, flight, None, crews):
                cache._count_miss()
                return factory()
            try:
                flight.wake_on_landing(landed.set)
                while not landed.wait(ORPHAN_SECONDS) and not flight.over:
                    pass
            finally:
                flight.let_sleep(landed.set)
                waits_no_more(me, crews)
            value, tries = _received(cache, flight, tries)
            if value is not cache._missing:
                return value

    async def amake(self, cache: Store, key: Hashable, factory: Callable[[], Any], terms: Terms) -> Any:
        """As `make`, for tasks."""
        catch_up()
        me, loop, crews = object(), running(), making.get()
        tries = TRIES if can_wait(loop) else 0  # else nobody waits
        while True:
            token = Token()
            mine = Flight(key, token, loop)
            flight = self._take_off(mine)
            if flight is mine:
                error = layout = None
                try:
                    value = cache._find_or_miss(key)
                    if value is cache._missing:
                        cache._count_miss()
                        with _working_on(flight):
                            value = await _made(factory)
                        cache._store_made(key, value, terms, flight)
                        if flight.waiters:
                            layout = self._leave(cache, flight, value)
                    return value
                except BaseException as failure:
                    error = failure
                    if isinstance(failure, MemoryError):
                        cache._give_way_to_program()
                    raise
                finally:
                    self._take_down(flight)
                    flight.land(error, layout)
                    del error, flight, mine
            if not tries or closes_a_circle(me, flight, loop, crews):
                cache._count_miss()
                return await _made(factory)
            try:
                await wait(loop, flight, ORPHAN_SECONDS)
            finally:
                waits_no_more(me, crews)
            value, tries = _received(cache, flight, tries)
            if value is not cache._missing:
                return value


def _received(cache: Store, flight: Flight, tries: int) -> tuple[Any, int]:
    """What somebody who waited gets of a flight that is over (`MISSING`: nothing), and how often he may yet wait.

    What was stored may be gone again (lost, expired, replaced by what is larger). Many who wait would then make it one
    after the other; so each waits for two makings that bring nothing, and then makes his own beside whoever does.
    """
    if not flight.done or (flight.error is not None and not isinstance(flight.error, Exception)):
        return cache._missing, tries  # the maker was stopped, so there is no answer
    if flight.error is not None:
        cache._count_miss()
        raise own(flight.error)
    value = cache._find_or_miss(flight.key)
    if value is cache._missing and flight.layout is not None and flight.layout is not NOTHING:
        value = cache._make_again(flight.layout)
        cache._count_hit()
    return value, 0 if flight.layout is NOTHING else tries - 1


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
