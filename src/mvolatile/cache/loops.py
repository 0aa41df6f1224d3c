"""How a task waits: in asyncio, in trio, and, by either, in anyio.

Only waiting needs a framework. What finds a value or makes one runs under any, and by hand; under one that is not known
here nobody waits, and who misses makes the value himself.

Neither framework is imported: a task of one is there only where that is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Protocol

__all__ = ["can_wait", "in_thread", "is_closed", "running", "spawn", "wait"]


class Awaited(Protocol):
    """What is waited for."""

    loop: Any

    @property
    def over(self) -> bool: ...

    def wake_when_over(self, wake: Callable[[], object]) -> None: ...

    def let_sleep(self, wake: Callable[[], object]) -> None: ...


class Unknown:
    """A loop of whatever kind, and nothing is known of it. Each call has one of its own."""

    __slots__ = ()


def running() -> Any:
    """The loop that runs the task: asyncio's, trio's token, or an `Unknown`."""
    trio = sys.modules.get("trio")
    if trio is not None and _is_trio(trio):
        return trio.lowlevel.current_trio_token()
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        with suppress(RuntimeError):
            return asyncio.get_running_loop()
    return Unknown()


def _is_trio(trio: Any) -> bool:
    """Trio runs as a guest of asyncio, and asyncio (trio-asyncio) of trio: sniffio knows which of them is at it."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is None:
        return bool(trio.lowlevel.in_trio_task())
    try:
        return bool(sniffio.current_async_library() == "trio")
    except sniffio.AsyncLibraryNotFoundError:
        return False


def can_wait(loop: Any) -> bool:
    """Whether `wait` knows how."""
    return not isinstance(loop, Unknown)


def is_closed(loop: Any) -> bool:
    """Whether no task of it will ever go on. Trio's tasks all end before it does."""
    return hasattr(loop, "is_closed") and loop.is_closed()


def spawn(
    loop: Any, function: Callable[[Any], Coroutine[Any, Any, None]], argument: Any, context: Context
) -> Any:
    """Run ``function(argument)`` as a task of our own loop, beside all others; it raises no `Exception`. What keeps it
    alive, or None where it cannot be. It is cancelled where the loop ends first.
    """
    if hasattr(loop, "call_soon_threadsafe"):
        return loop.create_task(function(argument), context=context)
    if can_wait(loop):
        return sys.modules["trio"].lowlevel.spawn_system_task(function, argument, context=context)
    return None


async def in_thread(loop: Any, function: Callable[[Any], Any], argument: Any) -> Any:
    """``function(argument)``, which may take its time, beside the loop; here where that cannot be."""
    if hasattr(loop, "run_in_executor"):
        try:
            done = loop.run_in_executor(None, function, argument)
        except RuntimeError:  # no thread is to be had
            return function(argument)
        return await done
    if can_wait(loop):
        return await sys.modules["trio"].to_thread.run_sync(function, argument)
    return function(argument)


async def wait(loop: Any, call: Awaited, patience: float) -> None:
    """Until `call` is over. Looks at it every `patience` seconds where its maker runs elsewhere and may vanish
    without a word. In our own loop it cannot, and a timer would have clocks of tests that jump (`trio.testing`) race.
    """
    if hasattr(loop, "call_soon_threadsafe"):
        await _in_asyncio(loop, call, patience)
    else:
        await _in_trio(loop, call, patience)


async def _in_asyncio(loop: Any, call: Awaited, patience: float) -> None:
    """Not by `asyncio.wait_for`: in Python 3.11 it returns what it waited for, and forgets that its task was cancelled
    a step later.
    """
    woken: Any = None

    def wake() -> None:
        if woken is not None and not woken.done():
            woken.set_result(None)

    wake_soon = partial(loop.call_soon_threadsafe, wake)
    call.wake_when_over(wake_soon)
    try:
        while not call.over:
            woken = loop.create_future()
            timer = None if call.loop is loop else loop.call_later(patience, wake)
            try:
                await woken
            finally:
                if timer is not None:
                    timer.cancel()
    finally:
        call.let_sleep(wake_soon)


async def _in_trio(token: Any, call: Awaited, patience: float) -> None:
    trio = sys.modules["trio"]
    woken = trio.Event()
    wake_soon = partial(token.run_sync_soon, woken.set)
    call.wake_when_over(wake_soon)
    try:
        while not call.over:
            if call.loop is token:
                await woken.wait()
            else:
                with trio.move_on_after(patience):
                    await woken.wait()
    finally:
        call.let_sleep(wake_soon)
