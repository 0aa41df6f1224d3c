"""Single-flight: while one caller makes a missing value, others who want the same wait for it.

A purge makes many hot keys miss at once; without this every caller would rebuild each of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from inspect import isawaitable
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from .._core import MISSING
from .calls import Call, Calls, Token
from .circles import closes_a_circle, making, waits_no_more
from .fork import catch_up
from .loops import can_wait, in_thread, running, wait
from .raised import own
from .rebuild import Rebuilds

__all__ = ["TRIES", "SingleFlight", "Terms"]

ORPHAN_SECONDS = 1.0
"""How often those that wait look whether the maker is still there."""

TRIES = 2
NOTHING: Any = object()


class Terms(NamedTuple):
    """On what terms a made value is stored: how long it lives, whether it is stored at all, whether its key may hold an
    object weakly, its tag (`tag_of` tells it of the factory), and whether what its maker took is its cost.
    """

    ttl: Any = None
    condition: Callable[[Any], object] | None = None
    weak: bool = False
    tag_of: Callable[[Any], Hashable] | None = None
    timed: bool = True

    def tag(self, factory: Any) -> Hashable:
        """Of what `factory` makes, told before it does; None for none."""
        return None if self.tag_of is None else self.tag_of(factory)


class Cache(Protocol):
    """What making needs of a cache."""

    def find_or_miss(self, key: Any, /) -> Any:
        """The value or `MISSING`; a hit is counted."""
        ...

    tier: Any
    """What is behind, or None."""

    def load(self, call: Any, /) -> Any:
        """The value from behind, or `MISSING`; a hit is counted."""
        ...

    def count_hit(self) -> None:
        """One more."""
        ...

    def count_miss(self) -> None:
        """One more."""
        ...

    def store_made(self, key: Any, value: Any, terms: Terms, call: Call, /) -> bool:
        """Unless something is against it. Whether those who wait may have it if it was not stored."""
        ...

    def holds(self, key: Any, /) -> bool:
        """Whether there is an entry."""
        ...

    def lay_out(self, value: Any, /) -> Any:
        """The value as it would be stored, in ordinary memory; None if that cannot be, or would take much."""
        ...

    def make_again(self, layout: Any, /) -> Any:
        """The value of a layout."""
        ...

    def give_way_to_program(self) -> None:
        """There was no memory for something."""
        ...


class _Caller:
    """One who wants a value: a thread, or a task of `loop`, by its name `me`. `call` is another's, which it may wait
    for, and `began` when it asked.
    """

    __slots__ = ("began", "call", "crews", "loop", "me", "tag", "tries")

    def __init__(self, me: object, loop: Any, tag: Hashable) -> None:
        self.me, self.loop, self.tag = me, loop, tag
        self.crews = making.get()
        self.tries = TRIES if loop is None or can_wait(loop) else 0  # else nobody waits
        self.call: Any = None
        self.began = 0.0

    def must_not_wait(self) -> bool:
        """It waited in vain, or would close a circle; else others see now whom it waits for."""
        return not self.tries or closes_a_circle(self.me, self.call, self.loop, self.crews)

    def waits_no_more(self) -> None:
        """For `call`."""
        waits_no_more(self.me, self.crews)

    def was_away(self) -> None:
        """Since it asked it worked on nothing of its own."""
        if self.crews:
            self.crews[-1].away += perf_counter() - self.began


class _Making:
    """Entered by who makes a value, and held by its frame alone; however that ends, those who wait are told."""

    __slots__ = ("_call", "_caller", "_flight", "_layout", "_token")

    def __init__(self, flight: SingleFlight, caller: _Caller, call: Call, token: Token) -> None:
        self._flight, self._caller, self._token = flight, caller, token
        self._call: Any = call
        self._layout: Any = None

    def __enter__(self) -> _Making:
        return self

    def found(self) -> Any:
        """The value, which another may have stored since we looked, or `MISSING`."""
        cache = self._flight.cache
        value = cache.find_or_miss(self._call.key)
        if value is MISSING:
            value = cache.load(self._call)
        if value is MISSING:
            cache.count_miss()
        return value

    async def afound(self) -> Any:
        """As `found`, for tasks: what is behind may take its time, and does so in a thread."""
        cache = self._flight.cache
        value = cache.find_or_miss(self._call.key)
        if value is MISSING and cache.tier is not None:
            value = await in_thread(running(), cache.load, self._call)
        if value is MISSING:
            cache.count_miss()
        return value

    def working(self) -> _Working:
        """Entered while the value is being made."""
        return _Working(self._call, self._flight.rebuilds)

    def made(self, value: Any, terms: Terms) -> None:
        """Store it; and leave what those need who wait, if it was not stored. They do not get the object itself, which
        its maker may change under them.
        """
        cache, call = self._flight.cache, self._call
        fit = cache.store_made(call.key, value, terms, call)
        if not call.waiters:
            return
        self._flight.calls.forget(call)
        if fit and not cache.holds(call.key):
            layout = cache.lay_out(value)
            self._layout = NOTHING if layout is None else layout

    async def amade(self, value: Any, terms: Terms) -> None:
        """As `made`, for tasks: where what is stored is written behind too, that has room for it first."""
        tier = self._flight.cache.tier
        if tier is not None:
            await tier.room.await_more()
        self.made(value, terms)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        flight, caller, call = self._flight, self._caller, self._call
        try:
            if isinstance(error, MemoryError):
                flight.cache.give_way_to_program()
        finally:
            try:
                flight.calls.forget(call)
                call.complete(error, self._layout)
            finally:
                self._call = None  # a traceback has our maker's frame: a circle that would keep all it has
                if caller.crews and flight.cache.holds(call.key):
                    caller.was_away()


class _Working:
    """Its time is what remaking the value would take: not what went for others that are there afterwards, and cost what
    they cost; nor waiting for another's making. Those of tasks that are made side by side may be more than all. No
    generator: that took a sixth of what a making costs that is not stored.
    """

    __slots__ = ("_again", "_began", "_call", "_rebuilds", "_token")

    def __init__(self, call: Call, rebuilds: Rebuilds) -> None:
        self._call, self._rebuilds = call, rebuilds

    def __enter__(self) -> None:
        call = self._call
        self._token = making.set((*making.get(), call.crew))
        self._again = self._rebuilds.begin(hash(call.key))
        self._began = perf_counter()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        call, seconds = self._call, perf_counter() - self._began
        if self._again:
            self._rebuilds.end()
        call.seconds = max(0.0, seconds - call.crew.away)
        with suppress(ValueError):  # a dead task is closed in whatever context the collector finds it
            making.reset(self._token)


class SingleFlight:
    """Makes the values of one cache."""

    __slots__ = ("cache", "calls", "rebuilds")

    def __init__(self, cache: Cache, calls: Calls, rebuilds: Rebuilds) -> None:
        self.cache, self.calls, self.rebuilds = cache, calls, rebuilds

    def drop(self) -> None:
        """The cache is closed: what is not begun is not to be."""

    def after_fork(self) -> None:
        """In the child."""

    def make(
        self,
        key: Hashable,
        factory: Callable[[], Any],
        terms: Terms,
        alone: Callable[[], Any] | None = None,
        waits: bool = True,
    ) -> Any:
        """The value of ``factory()``, made here and stored, or made by another.

        A factory that waits for other processes gives ``alone``, which waits for nobody: that is called by who would
        close a circle. With `waits` False it is the factory that waits, also for those of this process.
        """
        catch_up()
        caller = _Caller(threading.get_ident(), None, terms.tag(factory))
        while True:
            maker = self._join(key, caller)
            if maker is not None:
                with maker:
                    value = maker.found()
                    if value is MISSING:
                        with maker.working():
                            value = factory()
                        maker.made(value, terms)
                    return value
            if caller.must_not_wait():
                self.cache.count_miss()
                return (alone or factory)()
            try:
                if not waits:
                    return factory()
                self._await(caller)
            finally:
                caller.waits_no_more()
            value = self._received(caller)
            if value is not MISSING:
                return value

    async def amake(
        self,
        key: Hashable,
        factory: Callable[[], Any],
        terms: Terms,
        alone: Callable[[], Any] | None = None,
        waits: bool = True,
    ) -> Any:
        """As `make`, for tasks."""
        catch_up()
        caller = _Caller(object(), running(), terms.tag(factory))
        while True:
            maker = self._join(key, caller)
            if maker is not None:
                with maker:
                    value = await maker.afound()
                    if value is MISSING:
                        with maker.working():
                            value = await _made(factory)
                        await maker.amade(value, terms)
                    return value
            if caller.must_not_wait():
                self.cache.count_miss()
                return await _made(alone or factory)
            try:
                if not waits:
                    return await _made(factory)
                try:
                    await wait(caller.loop, caller.call, ORPHAN_SECONDS)
                finally:
                    caller.was_away()
            finally:
                caller.waits_no_more()
            value = self._received(caller)
            if value is not MISSING:
                return value

    def _join(self, key: Hashable, caller: _Caller) -> _Making | None:
        """What `caller` makes; None where it has another's call."""
        caller.began = perf_counter()
        token = Token()
        mine = Call(key, token, caller.loop, caller.tag)
        call = self.calls.join(mine)
        if call is mine:
            return _Making(self, caller, call, token)
        caller.call = call
        return None

    def _await(self, caller: _Caller) -> None:
        call, over = caller.call, threading.Event()
        try:
            call.wake_when_over(over.set)
            while not over.wait(ORPHAN_SECONDS) and not call.over:
                pass
        finally:
            call.let_sleep(over.set)
            caller.was_away()

    def _received(self, caller: _Caller) -> Any:
        """What somebody who waited gets of a call that is over, or `MISSING`; counted is how often he may yet wait.

        What was stored may be gone again (lost, expired, replaced by what is larger). Many who wait would then make it
        one after the other; so each waits for two makings that bring nothing, and then makes his own beside whoever
        does.
        """
        cache, call = self.cache, caller.call
        if not call.done or (call.error is not None and not isinstance(call.error, Exception)):
            return MISSING  # the maker was stopped, so there is no answer
        if call.error is not None:
            cache.count_miss()
            raise own(call.error)
        value = cache.find_or_miss(call.key)
        if value is MISSING and call.layout is not None and call.layout is not NOTHING:
            value = cache.make_again(call.layout)
            cache.count_hit()
        caller.tries = 0 if call.layout is NOTHING else caller.tries - 1
        return value


async def _made(factory: Callable[[], Any]) -> Any:
    value = factory()
    return await value if isawaitable(value) else value
