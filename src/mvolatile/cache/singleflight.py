"""Single-flight: while one caller makes a missing value, others who want the same wait for it.

A purge makes many hot keys miss at once; without this every caller would rebuild each of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
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


class _Making:
    """Entered by who makes a value; however that ends, those who wait are told."""

    __slots__ = ("_cache", "_call", "_calls", "_layout")

    def __init__(self, cache: Cache, calls: Calls, call: Call) -> None:
        self._cache, self._calls, self._call = cache, calls, call
        self._layout: Any = None

    def __enter__(self) -> _Making:
        return self

    def found(self) -> Any:
        """The value, which another may have stored since we looked, or `MISSING`."""
        value = self._cache.find_or_miss(self._call.key)
        if value is MISSING:
            value = self._cache.load(self._call)
        if value is MISSING:
            self._cache.count_miss()
        return value

    async def afound(self) -> Any:
        """As `found`, for tasks: what is behind may take its time, and does so in a thread."""
        value = self._cache.find_or_miss(self._call.key)
        if value is MISSING and self._cache.tier is not None:
            value = await in_thread(running(), self._cache.load, self._call)
        if value is MISSING:
            self._cache.count_miss()
        return value

    def made(self, value: Any, terms: Terms) -> None:
        """Store it; and leave what those need who wait, if it was not stored. They do not get the object itself, which
        its maker may change under them.
        """
        cache, call = self._cache, self._call
        fit = cache.store_made(call.key, value, terms, call)
        if not call.waiters:
            return
        self._calls.forget(call)
        if fit and not cache.holds(call.key):
            layout = cache.lay_out(value)
            self._layout = NOTHING if layout is None else layout

    async def amade(self, value: Any, terms: Terms) -> None:
        """As `made`, for tasks: where what is stored is written behind too, that has room for it first."""
        if self._cache.tier is not None:
            await self._cache.tier.room.await_more()
        self.made(value, terms)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, MemoryError):
                self._cache.give_way_to_program()
        finally:
            self._calls.forget(self._call)
            self._call.complete(error, self._layout)


class SingleFlight:
    """Makes the values of one cache."""

    __slots__ = ("_cache", "_calls", "_rebuilds")

    def __init__(self, cache: Cache, calls: Calls, rebuilds: Rebuilds) -> None:
        self._cache, self._calls, self._rebuilds = cache, calls, rebuilds

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
        me, crews, tries, tag = threading.get_ident(), making.get(), TRIES, terms.tag(factory)
        while True:
            began = perf_counter()
            token = Token()
            mine: Any = Call(key, token, None, tag)
            call: Any = self._calls.join(mine)
            if call is mine:
                maker: Any = _Making(self._cache, self._calls, call)
                try:
                    with maker:
                        value = maker.found()
                        if value is MISSING:
                            with _working_on(call, self._rebuilds):
                                value = factory()
                            maker.made(value, terms)
                        return value
                finally:  # a traceback has this frame: a circle that would keep all it has
                    call = mine = maker = None
                    if crews and self._cache.holds(key):
                        crews[-1].away += perf_counter() - began
            if not tries or closes_a_circle(me, call, None, crews):
                self._cache.count_miss()
                return (alone or factory)()
            if not waits:
                try:
                    return factory()
                finally:
                    waits_no_more(me, crews)
            over = threading.Event()
            try:
                call.wake_when_over(over.set)
                while not over.wait(ORPHAN_SECONDS) and not call.over:
                    pass
            finally:
                call.let_sleep(over.set)
                waits_no_more(me, crews)
                if crews:
                    crews[-1].away += perf_counter() - began
            value, tries = self._received(call, tries)
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
        me, loop, crews, tag = object(), running(), making.get(), terms.tag(factory)
        tries = TRIES if can_wait(loop) else 0  # else nobody waits
        while True:
            began = perf_counter()
            token = Token()
            mine: Any = Call(key, token, loop, tag)
            call: Any = self._calls.join(mine)
            if call is mine:
                maker: Any = _Making(self._cache, self._calls, call)
                try:
                    with maker:
                        value = await maker.afound()
                        if value is MISSING:
                            with _working_on(call, self._rebuilds):
                                value = await _made(factory)
                            await maker.amade(value, terms)
                        return value
                finally:
                    call = mine = maker = None
                    if crews and self._cache.holds(key):
                        crews[-1].away += perf_counter() - began
            if not tries or closes_a_circle(me, call, loop, crews):
                self._cache.count_miss()
                return await _made(alone or factory)
            if not waits:
                try:
                    return await _made(factory)
                finally:
                    waits_no_more(me, crews)
            try:
                await wait(loop, call, ORPHAN_SECONDS)
            finally:
                waits_no_more(me, crews)
                if crews:
                    crews[-1].away += perf_counter() - began
            value, tries = self._received(call, tries)
            if value is not MISSING:
                return value

    def _received(self, call: Call, tries: int) -> tuple[Any, int]:
        """What somebody who waited gets of a call that is over (`MISSING`: nothing), and how often he may yet wait.

        What was stored may be gone again (lost, expired, replaced by what is larger). Many who wait would then make it
        one after the other; so each waits for two makings that bring nothing, and then makes his own beside whoever
        does.
        """
        cache = self._cache
        if not call.done or (call.error is not None and not isinstance(call.error, Exception)):
            return MISSING, tries  # the maker was stopped, so there is no answer
        if call.error is not None:
            cache.count_miss()
            raise own(call.error)
        value = cache.find_or_miss(call.key)
        if value is MISSING and call.layout is not None and call.layout is not NOTHING:
            value = cache.make_again(call.layout)
            cache.count_hit()
        return value, 0 if call.layout is NOTHING else tries - 1


@contextmanager
def _working_on(call: Call, rebuilds: Rebuilds) -> Iterator[None]:
    """Its time is what remaking the value would take: not what went for others that are there afterwards, and cost
    what they cost; nor waiting for another's making. Those of tasks that are made side by side may be more than all.
    """
    token = making.set((*making.get(), call.crew))
    again = rebuilds.begin(hash(call.key))
    began = perf_counter()
    try:
        yield
    finally:
        if again:
            rebuilds.end()
        call.seconds = max(0.0, perf_counter() - began - call.crew.away)
        with suppress(ValueError):  # a dead task is closed in whatever context the collector finds it
            making.reset(token)


async def _made(factory: Callable[[], Any]) -> Any:
    value = factory()
    return await value if isawaitable(value) else value
