"""The call itself, and other calls that meet a purged marker; one processor is enough to see these."""

from __future__ import annotations

from typing import Any

from ..litmus import Litmus, mark, unmark, volatile_pages
from ..mmap import do_mmap, mincore
from ..mvolatile import MVOLATILE_NONVOLATILE, mvolatile
from ..properties import NO_KERNEL_BUG
from ..state import Config, Kernel
from ..steps import Steps
from ..user import store
from ..vmscan import age_all_pages, reclaim


def _three_pages(k: Kernel) -> Steps[None]:
    yield from do_mmap(k, 0, 0, 3)
    for address in range(3):
        yield from store(k, 0, address, address + 1)


def _mark_in_pieces(k: Kernel) -> Steps[int]:
    yield from mark(k, 0, 0, 1)
    yield from mark(k, 0, 1, 1)
    yield age_all_pages(k)
    return (yield from reclaim(k, 3))


def _mark_twice(k: Kernel) -> Steps[tuple[int, int]]:
    yield from mark(k, 0, 0, 1)
    return (yield from mark(k, 0, 1, 2))


def _unmark_too_far(k: Kernel) -> Steps[tuple[int, int]]:
    yield from mark(k, 0, 0, 3)
    return (yield from unmark(k, 0, 0, 4))


def _unmark_mark_unmark(k: Kernel) -> Steps[tuple[Any, Any]]:
    first = yield from unmark(k, 0)
    yield from mark(k, 0)
    second = yield from unmark(k, 0)
    return first, second


def _purged_page(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k)
    yield from reclaim(k, 1)


def _unmark_with_bad_pointer(k: Kernel) -> Steps[tuple[int, int]]:
    return (yield from mvolatile(k, 0, 0, 1, MVOLATILE_NONVOLATILE, fault=2))


def _mincore(k: Kernel) -> Steps[int]:
    return (yield from mincore(k, 0, 0))


RACES = (
    Litmus(
        "mark_next_to_volatile",
        "no_lost_report",
        "marking the page behind a volatile one: vma_merge moves the border, the flags land on what is left behind it",
        _three_pages,
        {"cpu0": _mark_in_pieces},
        Config(addresses=3, frames=4),
    ),
    Litmus(
        "mark_up_to_volatile",
        NO_KERNEL_BUG,
        "marking all the rest behind a volatile page: vma_merge frees the VMA whose flags are then written",
        _three_pages,
        {"cpu0": _mark_twice},
        Config(addresses=3, frames=4),
    ),
    Litmus(
        "unmark_past_the_last_vma",
        NO_KERNEL_BUG,
        "a range that goes on behind the last VMA: v13 walks from a NULL VMA, v14 reads vma->vm_end of one",
        _three_pages,
        {"cpu0": _unmark_too_far},
        Config(addresses=3, frames=4),
    ),
    Litmus(
        "stale_marker",
        "no_false_report",
        "unmark leaves the purged marker (v12): volatile again, the page looks purged at once",
        _purged_page,
        {"cpu0": _unmark_mark_unmark},
    ),
    Litmus(
        "bad_pointer_on_return",
        "no_lost_report",
        "the second store to *purged faults: EFAULT, although the memory is non-volatile now and the result is gone",
        _purged_page,
        {"cpu0": _unmark_with_bad_pointer},
    ),
    Litmus(
        "mincore_of_a_purged_page",
        NO_KERNEL_BUG,
        "mincore takes any non-migration entry for a swap slot and indexes swapper_spaces[] by its type",
        _purged_page,
        {"cpu0": _mincore},
    ),
)
