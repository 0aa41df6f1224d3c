"""Values that are given although they expired: while they are made anew (`stale`), or since that failed
(`stale_if_error`).

All of it is on the way of a miss: a value that expired is one, and whoever would make it comes here first. Who finds
the old value takes it, and has one maker make the new one: in a thread, or for tasks in a task of their loop. Both
make it as everybody does (`SingleFlight`): others who come too late for the old value wait for them, and what was set
or deleted meanwhile is not overwritten.

The bad schedules. A refresher dies by a fork, or with its loop: it is known by who it is, and counts no more. It
comes to a value that another has made already: it looks first. It needs, through others, its own key: it gets the old
value, for a refresh is under way. The cache is closed: those that wait for a thread are dropped. There is no thread
to be had: who asked makes the value.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol

from .._core import MISSING, forks
from ..kernel.threads import start_thread, tell_once
from .calls import Calls
from .circles import making
from .fork import catch_up
from .loops import is_closed, running, spawn
from .rebuild import Rebuilds
from .singleflight import Cache, SingleFlight, Terms
from .stopped import raise_if_stopped

__all__ = ["Refreshing"]

MOST_THREADS = 4
"""Of one cache. Refreshes that come meanwhile wait for one of them."""

CURRENT = 0.0


class Late(Protocol):
    """Where old values are found."""

    def find_late(self, key: Any, late: float, /) -> Any:
        """The value, if it expired less than `late` seconds ago; or `MISSING`. Counts nothing."""
        ...


class Job:
    """One refresh: of a thread, or of a task of `loop`. `alone` is called in place of `factory` by who may not wait."""

    __slots__ = ("alone", "context", "factory", "forks", "key", "loop", "task", "terms")

    def __init__(
        self,
        key: Hashable,
        factory: Callable[[], Any],
        terms: Terms,
        alone: Callable[[], Any] | None,
        works_for: tuple[ContextVar[tuple[Any, ...]], ...],
        loop: Any = None,
    ) -> None:
        self.key, self.factory, self.terms, self.alone, self.loop = key, factory, terms, alone, loop
        self.forks = forks()
        self.context: Context = copy_context()
        # Nobody waits for it: it works for none of those whom it would be taken to work for.
        for variable in works_for:
            self.context.run(variable.set, ())
        self.task: Any = None  # an event loop holds its tasks weakly

    @property
    def lives(self) -> bool:
        """Not that of another process, nor of a loop that was closed under it."""
        return self.forks == forks() and (self.loop is None or not is_closed(self.loop))


class Refreshing(SingleFlight):
    """Makes the values of one cache that keeps old ones: `stale` seconds, or `stale_if_error`. `works_for` has the
    variables of the context that name those for whom a caller makes something.
    """

    __slots__ = ("_due", "_if_error", "_jobs", "_reading", "_stale", "_threads", "_works_for")

    def __init__(
        self,
        cache: Cache,
        calls: Calls,
        rebuilds: Rebuilds,
        reading: Late,
        stale: float,
        stale_if_error: float,
        works_for: tuple[ContextVar[tuple[Any, ...]], ...] = (),
    ) -> None:
        super().__init__(cache, calls, rebuilds)
        self._works_for = (making, *works_for)
        self._reading, self._stale, self._if_error = reading, stale, stale_if_error
        self.after_fork()

    def after_fork(self) -> None:
        """In the child: the threads stayed in the parent, with their jobs."""
        self._jobs: dict[Hashable, Job] = {}
        self._due: deque[Job] = deque()
        self._threads = threading.Semaphore(MOST_THREADS)

    def make(
        self,
        key: Hashable,
        factory: Callable[[], Any],
        terms: Terms,
        alone: Callable[[], Any] | None = None,
        waits: bool = True,
    ) -> Any:
        """As `SingleFlight.make`, but for old values."""
        catch_up()
        old, job = self._late(key, factory, terms, alone)
        if job is not None:
            self._run(job)
            return self._newer(key, old)
        if old is not MISSING:
            return old
        try:
            return super().make(key, factory, terms, alone, waits)
        except Exception as error:
            return self._instead(key, error)

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
        old, job = self._late(key, factory, terms, alone, running)
        if job is not None:
            await self._arun(job)
            return self._newer(key, old)
        if old is not MISSING:
            return old
        try:
            return await super().amake(key, factory, terms, alone, waits)
        except Exception as error:
            return self._instead(key, error)

    def drop(self) -> None:
        """The cache is closed."""
        while self._due:
            try:
                self._over(self._due.popleft())
            except IndexError:
                return

    # ---- old values

    def _late(
        self,
        key: Hashable,
        factory: Callable[[], Any],
        terms: Terms,
        alone: Callable[[], Any] | None,
        loop_of: Callable[[], Any] | None = None,
    ) -> tuple[Any, Job | None]:
        """The old value, or `MISSING`; and its refresh, where the caller has to make that itself."""
        old = self._reading.find_late(key, self._stale) if self._stale else MISSING
        if old is MISSING:
            return MISSING, None
        self.cache.count_hit()
        loop = None if loop_of is None else loop_of()
        job = self._begin(Job(key, factory, terms, alone, self._works_for, loop))
        beside = self._in_a_thread if loop_of is None else self._in_a_task
        return old, None if job is None or beside(job) else job

    def _newer(self, key: Hashable, old: Any) -> Any:
        value = self._reading.find_late(key, CURRENT)
        return old if value is MISSING else value

    def _instead(self, key: Hashable, error: Exception) -> Any:
        """The old value, in place of what went wrong."""
        raise_if_stopped(error)
        value = self._reading.find_late(key, self._if_error) if self._if_error else MISSING
        if value is MISSING:
            raise error
        return value

    # ---- refreshes

    def _begin(self, job: Job) -> Job | None:
        """`job`, if there is none for its key: None else."""
        other = self._jobs.setdefault(job.key, job)
        if other is not job and not other.lives:
            self._over(other)
            other = self._jobs.setdefault(job.key, job)
        return job if other is job else None

    def _over(self, job: Job) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _run(self, job: Job) -> None:
        with self._nobodys(job):
            if self._is_due(job):
                job.context.run(SingleFlight.make, self, job.key, job.factory, job.terms, job.alone)

    async def _arun(self, job: Job) -> None:
        with self._nobodys(job):
            if self._is_due(job):
                await SingleFlight.amake(self, job.key, job.factory, job.terms, job.alone)

    def _is_due(self, job: Job) -> bool:
        return self._reading.find_late(job.key, CURRENT) is MISSING

    @contextmanager
    def _nobodys(self, job: Job) -> Iterator[None]:
        """What is raised in it is nobody's answer."""
        try:
            yield
        except Exception as error:
            raise_if_stopped(error)
            threading.excepthook(
                threading.ExceptHookArgs(
                    (type(error), error, error.__traceback__, threading.current_thread())
                )
            )
        finally:
            self._over(job)

    def _in_a_thread(self, job: Job) -> bool:
        """Whether it will be done beside the caller."""
        self._due.append(job)
        threads = self._threads
        if not threads.acquire(blocking=False):
            return True
        try:
            thread = threading.Thread(
                target=self._work, args=(threads,), name="mvolatile-refresh", daemon=True
            )
            start_thread(thread, green=True)
        except BaseException as failure:
            threads.release()
            try:
                self._due.remove(job)
            except ValueError:  # another thread has taken it
                return True
            if not isinstance(failure, RuntimeError | MemoryError):
                self._over(job)
                raise
            tell_once("expired values are made anew by who asks for them", failure)
            return False
        return True

    def _work(self, threads: threading.Semaphore) -> None:
        try:
            while self._due:
                try:
                    job = self._due.popleft()
                except IndexError:
                    break
                self._run(job)
                del job
        finally:
            threads.release()
            if self._due:  # one came after we looked, and found all threads at work
                self._take_up()

    def _take_up(self) -> None:
        try:
            job = self._due.popleft()
        except IndexError:
            return
        if not self._in_a_thread(job):
            self._run(job)

    def _in_a_task(self, job: Job) -> bool:
        job.task = spawn(job.loop, self._arun, job, job.context)
        if hasattr(job.task, "add_done_callback"):  # cancelled before it began, it never ends by itself
            job.task.add_done_callback(lambda _: self._over(job))
        return job.task is not None
