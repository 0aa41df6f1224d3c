"""Small programs by number, for a search that is not told where to look.

Number n always gives the same program: a beginning, one thread that marks and unmarks among other things, one that
touches memory in the same process or a child, and kswapd.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from .litmus import (
    Litmus,
    Thread,
    mark,
    pages,
    reclaimer,
    shared_page,
    shared_volatile,
    swap_volatile,
    unmark,
    volatile_pages,
)
from .mmap import do_munmap, madvise_dontneed, mlock
from .state import Config, Kernel
from .steps import Steps
from .user import copy_from_user, get_user_pages, load, put_user_page, store

Action = Callable[[Kernel], Steps[Any]]


def _shared_parent(k: Kernel) -> Steps[None]:
    yield from shared_page(k, True, False)


def _shared_child(k: Kernel) -> Steps[None]:
    yield from shared_page(k, False, True)


def _two_volatile(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k, 2)


def _pin(k: Kernel, mm: int) -> Steps[None]:
    page = yield from get_user_pages(k, mm, 0)
    if page:
        yield from put_user_page(k, page)


BEGINNINGS: dict[str, tuple[Thread, int, int]] = {
    "a page": (pages, 1, 1),
    "a volatile page": (volatile_pages, 1, 1),
    "two volatile pages": (_two_volatile, 1, 2),
    "a volatile page in swap": (swap_volatile, 1, 1),
    "a page shared, volatile in both": (shared_volatile, 2, 1),
    "a page shared, volatile in the parent": (_shared_parent, 2, 1),
    "a page shared, volatile in the child": (_shared_child, 2, 1),
}
"""What a program begins with: (setup, processes, pages)."""


def _in_order(k: Kernel, actions: tuple[Action, ...]) -> Steps[tuple[Any, ...]]:
    results: tuple[Any, ...] = ()
    for at in range(len(actions)):
        result = yield from actions[at](k)
        results = (*results, result)
        del result
    return results


def generated(number: int) -> Litmus:
    """Program `number`."""
    dice = random.Random(number)
    beginning = dice.choice(sorted(BEGINNINGS))
    setup, processes, size = BEGINNINGS[beginning]
    caller, toucher = dice.randrange(processes), dice.randrange(processes)
    address = dice.randrange(size)
    calls: dict[str, Action] = {
        "mark": partial(mark, mm=caller, start=address),
        "unmark": partial(unmark, mm=caller, start=address),
        "load": partial(load, mm=caller, address=address),
        "store": partial(store, mm=caller, address=address, value=7),
    }
    touches: dict[str, Action] = {
        "load": partial(load, mm=toucher, address=address),
        "store": partial(store, mm=toucher, address=address, value=8),
        "read()": partial(copy_from_user, mm=toucher, address=address),
        "MADV_DONTNEED": partial(madvise_dontneed, mm=toucher, start=0, end=1),
        "munmap": partial(do_munmap, mm=toucher, start=0, end=1),
        "mlock": partial(mlock, mm=toucher, start=0, end=1),
        "pin": partial(_pin, mm=toucher),
    }
    one = ["unmark", dice.choice(["load", "store", "mark"])] if dice.random() < 0.7 else ["mark", "load"]
    two = [dice.choice(sorted(touches))]
    return Litmus(
        f"generated-{number}",
        "no_wrong_data",
        f"{beginning}; mm{caller} {', '.join(one)}; mm{toucher} {', '.join(two)}; a scan",
        setup,
        {
            "cpu0": partial(_in_order, actions=tuple(calls[name] for name in one)),
            "cpu1": partial(_in_order, actions=tuple(touches[name] for name in two)),
            "kswapd": reclaimer,
        },
        Config(frames=4, slots=0 if beginning != "a volatile page in swap" else 1),
    )
