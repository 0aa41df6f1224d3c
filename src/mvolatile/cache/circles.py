"""Nobody waits in a circle: A makes k1 and needs k2, B makes k2 and needs k1. Whoever would close the circle makes
the value itself. What a caller is making is kept in a context variable, which tasks and `asyncio.to_thread` copy: a
factory may ask through them. Who waits for whom is kept for all caches together, since a circle may lead through
several. A thread of a pool that does not copy the context is not seen to work for anybody.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from .._core import forks
from .fork import at_start_over

__all__ = ["Crew", "closes_a_circle", "forget_other_threads", "lock", "making", "waiting", "waits_no_more"]


class Call(Protocol):
    """One making of a value."""

    @property
    def crew(self) -> Crew:
        """Who works on it."""
        ...

    @property
    def loop(self) -> Any:
        """Of the task that makes it; None for a thread."""
        ...


Caller: TypeAlias = object
"""A thread's identifier, or an object of the call of a task: holding the task itself would keep a dead one."""

waiting: dict[Caller, Call] = {}
"""Who waits for which call. Single dictionary operations, which are atomic; the walk is made under `lock()`."""

locks: dict[int, Any] = {}
"""A lock for each process, by its `forks()`: a fork in C, of which Python is not told, may come while another thread
has it. Reentrant: a finalizer may come while we have it.
"""


class Crew:
    """Those who work on a call: its maker, and whom that asks. Contexts outlive calls, so no value is kept here."""

    __slots__ = ("away", "needs", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.needs: dict[Caller, Call] = {}  # what some of them wait for
        self.away = 0.0  # seconds that went for the making of other values


making: ContextVar[tuple[Crew, ...]] = ContextVar("mvolatile_making", default=())
"""The crews that this caller works for."""


def closes_a_circle(caller: Caller, call: Call, loop: Any, crews: tuple[Crew, ...]) -> bool:
    """Note that `caller`, who works for `crews`, waits for `call`, and False; if that would close a circle, True, and
    nothing is noted.

    A thread that waits keeps all that is made in it waiting, its event loop's tasks too. A task (`loop` is its own)
    keeps those only who work as it does; but a thread that makes something further down its stack waits for us.
    """
    thread = threading.get_ident()
    with lock():
        met, todo = {id(call)}, [call]
        while todo:
            next_ = todo.pop()
            if next_.crew in crews or (next_.crew.thread == thread and (loop is None or next_.loop is None)):
                return True
            needed = [*next_.crew.needs.values(), waiting.get(next_.crew.thread)]
            for another in needed:
                if another is not None and id(another) not in met:
                    met.add(id(another))
                    todo.append(another)
        waiting[caller] = call
        for crew in crews:
            crew.needs[caller] = call
        return False


def lock() -> Any:
    """This process's, of `locks`."""
    return locks.get(forks()) or locks.setdefault(forks(), threading.RLock())


def waits_no_more(caller: Caller, crews: tuple[Crew, ...]) -> None:
    """It has what it waited for, or gave up."""
    waiting.pop(caller, None)
    with lock():
        for crew in crews:
            crew.needs.pop(caller, None)


def forget_other_threads() -> None:
    """In a forked child only this thread lives, and it waits for nobody."""
    locks.clear()
    waiting.clear()


at_start_over(forget_other_threads)
