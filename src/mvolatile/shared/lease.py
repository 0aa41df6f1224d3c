"""Making a missing value once on a host, as a client: the lease is asked for, waited for, and given back.

What a caller makes is known to the keeper by its leases, which go along in a context variable: tasks and
`asyncio.to_thread` copy it. So the keeper finds a circle of makers that leads through several processes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import isawaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .._core import MISSING
from . import keys
from .connection import Line
from .values import Call, Terms, can_wait, in_thread, making, running
from .wire import Flag, Op, Reply, Request, Status

if TYPE_CHECKING:
    from .access import Access

__all__ = ["HELD", "aleased", "doubt", "holds_leases", "leased", "tag_in"]

MOST_HELD = 64
LOOKS = 8
"""Times that a value is looked for which is said to be there, and is gone when it is looked for."""

HELD: ContextVar[tuple[int, ...]] = ContextVar("mvolatile_leases", default=())
"""The leases under which the caller makes something."""


def holds_leases() -> bool:
    """Whether what this caller makes, others wait for at the keeper. Then it must wait there itself, or a circle
    through several processes has a piece that nobody sees.
    """
    return bool(HELD.get())


def doubt(call: Call | None) -> None:
    """Those who wait for `call` in this process are given nothing, and look for themselves.

    The bad schedule: one of them asked after another process had deleted the key, of which this one hears nothing; what
    is being made was begun before. So what was not stored is given to them only if the lease was not stale at its end,
    and before it ends nobody joins them any more.
    """
    if call is not None:
        call.stale = True


def leased(cache: Access, key: Any, factory: Callable[[], Any], terms: Terms) -> Callable[[], Any]:
    """``factory()`` under a lease, stored; or the value that another made meanwhile."""

    def make() -> Any:
        call = cache.calls.get(key)
        for _ in range(LOOKS):
            line = _line(cache)
            if line is None:
                return factory()  # there is no keeper to be had
            try:
                reply = _ask(cache, line, key, terms)
                if reply is not None and reply.status == Status.WAIT:
                    reply = line.wait()
                if reply is None or reply.status == Status.LOOK:
                    value = _look(cache, line, key, reply)
                    if value is not MISSING:
                        return value
                    continue
                if reply.status != Status.OK:
                    doubt(call)
                    return factory()
                with _holding(cache, line, call, reply.version) as lease:
                    value = cache.find_leased((key, reply, line))
                    if value is not MISSING:
                        lease.stored = True
                        doubt(call)
                        return value
                    with _Timed() as took:
                        value = factory()
                    cache.calls.forget(call)
                    lease.stored = cache.store_leased(
                        key, value, terms, reply.version, line, took.seconds, call
                    )
                    lease.failed = False
                    return value
            finally:
                cache.connections.put_away(line)
        return factory()

    return make


def aleased(cache: Access, key: Any, factory: Callable[[], Any], terms: Terms) -> Callable[[], Any]:
    """As `leased`, for tasks."""

    async def make() -> Any:
        call = cache.calls.get(key)
        for _ in range(LOOKS):
            line = _line(cache) if can_wait(running()) else None
            if line is None:
                return await _made(factory)
            try:
                reply = _ask(cache, line, key, terms)
                if reply is not None and reply.status == Status.WAIT:
                    await _readable(line)
                    reply = line.wait()
                if reply is None or reply.status == Status.LOOK:
                    value = _look(cache, line, key, reply)
                    if value is not MISSING:
                        return value
                    continue
                if reply.status != Status.OK:
                    doubt(call)
                    return await _made(factory)
                with _holding(cache, line, call, reply.version) as lease:
                    value = MISSING
                    if cache.second is not None:
                        value = await in_thread(running(), cache.find_leased, (key, reply, line))
                    if value is not MISSING:
                        lease.stored = True
                        doubt(call)
                        return value
                    with _Timed() as took:
                        value = await _made(factory)
                    if cache.second is not None:
                        await cache.second.behind.room.await_more()
                    cache.calls.forget(call)
                    lease.stored = cache.store_leased(
                        key, value, terms, reply.version, line, took.seconds, call
                    )
                    lease.failed = False
                    return value
            finally:
                cache.connections.put_away(line)
        return await _made(factory)

    return make


def _line(cache: Access) -> Line | None:
    """None where there is no keeper to be had, or no descriptor: who has none makes the value all the same."""
    try:
        line = cache.connections.line(start=True)
        if line is None and not cache.connections.closed:
            cache.tell_no_keeper()
        return line
    except OSError as error:
        cache.tell_trouble(f"a value is made and not stored: {error}")
        return None


def _ask(cache: Access, line: Line, key: Any, terms: Terms) -> Reply | None:
    held = HELD.get()[-MOST_HELD:]
    flags = Flag.BEHIND if cache.second is not None else 0
    body = struct.pack(f"<{len(held)}Q", *held)
    return line.ask(Request(Op.LEASE, keys.encode(key), body, flags=flags, tag=tag_in(terms)))


def tag_in(terms: Terms) -> bytes:
    """What stands for the tag of a making, of which that was asked at its beginning (`Access.make`)."""
    tag = terms.tag(None)
    return tag if isinstance(tag, bytes) else b""


def _look(cache: Access, line: Line, key: Any, reply: Reply | None) -> Any:
    if reply is None:
        cache.connections.lose(line)
        return MISSING
    value = cache.find(key)
    if value is MISSING:
        cache.drop_undecodable(key)
    return value


class _Lease:
    __slots__ = ("failed", "stored")

    def __init__(self) -> None:
        self.failed, self.stored = True, False


@contextmanager
def _holding(cache: Access, line: Line, call: Call | None, number: int) -> Iterator[_Lease]:
    """The lease ends when the block does, however that ends; and with the line, if it cannot be said."""
    lease = _Lease()
    token = HELD.set((*HELD.get(), number))
    try:
        yield lease
    finally:
        with suppress(ValueError):  # a dead task is closed in whatever context the collector finds it
            HELD.reset(token)
        if not lease.stored:
            reply = line.ask(Request(Op.RELEASE, lease=number, flags=Flag.FAILED if lease.failed else 0))
            if reply is None or reply.status != Status.OK:
                doubt(call)


class _Timed:
    """What a maker took: not for others' values, which are there afterwards and cost what they cost, nor waiting."""

    __slots__ = ("_away", "_began", "_crew", "seconds")

    def __enter__(self) -> _Timed:
        crews = making.get()
        self._crew = crews[-1] if crews else None
        self._away = 0.0 if self._crew is None else self._crew.away
        self.seconds, self._began = 0.0, perf_counter()
        return self

    def __exit__(self, *unused: object) -> None:
        away = 0.0 if self._crew is None else self._crew.away - self._away
        self.seconds = max(0.0, perf_counter() - self._began - away)


async def _made(factory: Callable[[], Any]) -> Any:
    value = factory()
    return await value if isawaitable(value) else value


async def _readable(line: Line) -> None:
    """Until the keeper has answered, or is gone."""
    trio = sys.modules.get("trio")
    loop = running()
    if hasattr(loop, "add_reader"):
        came = loop.create_future()
        descriptor = line.channel.fileno()
        if descriptor < 0:
            return
        loop.add_reader(descriptor, lambda: came.done() or came.set_result(None))
        try:
            await came
        finally:
            loop.remove_reader(descriptor)
    elif trio is not None and line.channel.fileno() >= 0:
        await trio.lowlevel.wait_readable(line.channel.fileno())
