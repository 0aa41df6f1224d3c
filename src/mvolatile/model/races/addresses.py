"""The address space changes, or is used, while reclaim walks."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..fork import fork
from ..litmus import (
    CHILD_STORE,
    LOAD,
    STORE,
    Litmus,
    mark,
    reclaimer,
    shared_volatile,
    swapped_page,
    unmark,
    volatile_pages,
)
from ..mmap import do_munmap, exit_mmap, mlock
from ..properties import NO_KERNEL_BUG
from ..state import Config, Kernel
from ..steps import Steps
from ..user import copy_from_user, load, store
from ..vmscan import age_all_pages


def _fork(k: Kernel) -> Steps[int]:
    return (yield from fork(k, 0, 1))


def _munmap(k: Kernel) -> Steps[int]:
    return (yield from do_munmap(k, 0, 0, 1))


def _child_exits(k: Kernel) -> Steps[int]:
    return (yield from exit_mmap(k, 1))


def _mlock(k: Kernel) -> Steps[tuple[int, Any]]:
    ret = yield from mlock(k, 0, 0, 1)
    value = yield from load(k, 0, 0)
    return ret, value


def _unmark_first_of_two(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0, 0, 1)
    value = yield from load(k, 0, 0)
    return ret, value


def _two_volatile_pages(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k, 2)


def _store_two(k: Kernel) -> Steps[tuple[Any, Any]]:
    one = yield from store(k, 0, 0, 8)
    two = yield from load(k, 0, 0)
    return one, two


def _swap_cache_page(k: Kernel) -> Steps[None]:
    yield from swapped_page(k)
    yield from load(k, 0, 0)
    yield from mark(k, 0)
    yield age_all_pages(k)


def _system_call(k: Kernel) -> Steps[int | str]:
    return (yield from copy_from_user(k, 0, 0))


RACES = (
    Litmus(
        "fork_against_purge",
        "all_sharers_or_none",
        "fork copies the ptes while the purge walks the anon_vma",
        volatile_pages,
        {"cpu0": _fork, "kswapd": reclaimer},
    ),
    Litmus(
        "munmap_against_purge",
        "exact_accounting",
        "the volatile page is unmapped while it is purged",
        volatile_pages,
        {"cpu0": _munmap, "kswapd": reclaimer},
    ),
    Litmus(
        "exit_against_purge",
        "exact_accounting",
        "the child exits while the page it shares is purged",
        shared_volatile,
        {"cpu0": _child_exits, "kswapd": reclaimer},
    ),
    Litmus(
        "copy_on_write_against_purge",
        "no_wrong_data",
        "the child writes to the shared volatile page while it is purged",
        shared_volatile,
        {"cpu0": CHILD_STORE, "kswapd": reclaimer},
        Config(frames=3),
    ),
    Litmus(
        "mlock_against_purge",
        NO_KERNEL_BUG,
        "mlock sets VM_LOCKED after page_referenced looked and before try_to_purge_one does: BUG_ON",
        volatile_pages,
        {"cpu0": _mlock, "kswapd": reclaimer},
    ),
    Litmus(
        "split_against_purge",
        "no_lost_report",
        "one of two volatile pages is unmarked, which splits the VMA under the purge",
        _two_volatile_pages,
        {"cpu0": _unmark_first_of_two, "kswapd": partial(reclaimer, scans=2)},
    ),
    Litmus(
        "touch_against_purge",
        "no_wrong_data",
        "a store and a load to a volatile page while it is purged: all of it there, or SIGBUS",
        volatile_pages,
        {"cpu0": _store_two, "cpu1": LOAD, "kswapd": reclaimer},
    ),
    Litmus(
        "swap_cache_page_purged",
        "exact_accounting",
        "the volatile page is still in the swap cache: try_to_free_swap gives the slot back",
        _swap_cache_page,
        {"cpu0": _system_call, "cpu1": STORE, "kswapd": reclaimer},
    ),
    Litmus(
        "two_reclaimers",
        "exact_accounting",
        "kswapd and a direct reclaimer scan two volatile pages while one is touched",
        _two_volatile_pages,
        {"cpu0": LOAD, "cpu1": reclaimer, "kswapd": reclaimer},
    ),
)
