"""What a litmus test is, and what those in `races` begin with.

A litmus test is a beginning, some threads, and the sizes of the machine, which are the bound of what a search of it
proves. Thread names are processors; schedules are written in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .fork import fork
from .mmap import do_mmap
from .mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE, mvolatile
from .properties import PROPERTIES, check
from .state import Config, Kernel, World, kernel
from .steps import Steps, run
from .user import (
    load,
    store,
)
from .variants import Variant
from .vmscan import age_all_pages, reclaim

Thread = Callable[[Kernel], Steps[Any]]

DEFAULT = Config()
TORN = Config(torn_reads=True)


@dataclass(frozen=True, slots=True)
class Litmus:
    """One race: how the machine is set up, who then runs, and what is asked.

    `asks` is the property in question; all others are watched as well.
    """

    name: str
    asks: str
    question: str
    setup: Thread
    threads: dict[str, Thread]
    config: Config = DEFAULT

    def kernel(self, variant: Variant | str) -> Kernel:
        """The machine it runs on."""
        return kernel(variant, self.config)

    def world(self, k: Kernel) -> World:
        """The state in which the threads begin."""
        world, _ = run(k.world, self.setup(k))
        return world

    def programs(self, k: Kernel) -> dict[str, Callable[[], Steps[Any]]]:
        """The threads, bound to the machine."""
        return {name: partial(thread, k) for name, thread in self.threads.items()}

    def check(self, k: Kernel, world: World, done: bool) -> tuple[str, ...]:
        """All that is wrong: the property in question first."""
        others = tuple(name for name in PROPERTIES if name != self.asks)
        return check(k, (self.asks, *others), world, done)

    @property
    def bound(self) -> str:
        """In words, within which bounds a search of all its interleavings proves."""
        c = self.config
        torn = ", ptes read in two halves" if c.torn_reads else ""
        threads = "1 thread" if len(self.threads) == 1 else f"{len(self.threads)} threads"
        return f"{threads}, {c.processes} processes, {c.frames} frames, {c.slots} slots{torn}"


def mark(k: Kernel, mm: int, start: int = 0, length: int = 1) -> Steps[tuple[int, int]]:
    """MVOLATILE_VOLATILE."""
    return (yield from mvolatile(k, mm, start, length, MVOLATILE_VOLATILE))


def unmark(k: Kernel, mm: int, start: int = 0, length: int = 1) -> Steps[tuple[int, int]]:
    """MVOLATILE_NONVOLATILE."""
    return (yield from mvolatile(k, mm, start, length, MVOLATILE_NONVOLATILE))


def pages(k: Kernel, number: int = 1) -> Steps[None]:
    """Process 0 maps and fills pages 0 and up; they are at the tail of the inactive list."""
    yield from do_mmap(k, 0, 0, number)
    for address in range(number):
        yield from store(k, 0, address, address + 1)
    yield age_all_pages(k)


def volatile_pages(k: Kernel, number: int = 1) -> Steps[None]:
    """The same, marked volatile."""
    yield from pages(k, number)
    yield from mark(k, 0, 0, number)


def shared_page(k: Kernel, parent_volatile: bool, child_volatile: bool) -> Steps[None]:
    """A page shared after fork, volatile or not in either process."""
    yield from pages(k)
    if parent_volatile and child_volatile:
        yield from mark(k, 0)
    yield from fork(k, 0, 1)
    if parent_volatile and not child_volatile:
        yield from mark(k, 0)
    if child_volatile and not parent_volatile:
        yield from mark(k, 1)


def swapped_page(k: Kernel) -> Steps[None]:
    """A page of process 0 that is in swap and nowhere else."""
    yield from pages(k)
    yield from reclaim(k, 3)


def reclaimer(k: Kernel, scans: int = 1) -> Steps[int]:
    """kswapd."""
    return (yield from reclaim(k, scans))


def shared_volatile(k: Kernel) -> Steps[None]:
    """A page shared after fork, volatile in both."""
    yield from shared_page(k, True, True)


def swap_volatile(k: Kernel) -> Steps[None]:
    """A volatile page that is in swap."""
    yield from swapped_page(k)
    yield from mark(k, 0)


LOAD: Thread = partial(load, mm=0, address=0)
STORE: Thread = partial(store, mm=0, address=0, value=7)
CHILD_LOAD: Thread = partial(load, mm=1, address=0)
CHILD_STORE: Thread = partial(store, mm=1, address=0, value=9)
