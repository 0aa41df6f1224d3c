"""The races: each a few lines of program for a few processors, named after what it provokes.

A litmus test is a beginning, some threads, and the sizes of the machine, which are the bound of what a search of it
proves. Thread names are processors; schedules are written in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .fork import fork
from .mmap import do_mmap, do_munmap, exit_mmap, madvise_dontneed, mincore, mlock
from .mvolatile import MVOLATILE_NONVOLATILE, MVOLATILE_VOLATILE, mvolatile
from .properties import NO_DEADLOCK, NO_KERNEL_BUG, PROPERTIES, check
from .state import Config, Kernel, World, kernel
from .steps import Steps, run
from .user import (
    copy_from_user,
    get_user_pages,
    load,
    map_in_secondary,
    put_user_page,
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

    def check(self, k: Kernel, world: World, done: bool) -> str | None:
        """What is wrong: the property in question first."""
        others = tuple(name for name in PROPERTIES if name != self.asks)
        return check(k, (self.asks, *others), world, done)

    @property
    def bound(self) -> str:
        """In words, within which bounds a search of all its interleavings proves."""
        c = self.config
        torn = ", ptes read in two halves" if c.torn_reads else ""
        return (
            f"{len(self.threads)} threads, {c.processes} processes, {c.frames} frames, {c.slots} slots{torn}"
        )


LITMUS: dict[str, Litmus] = {}


def _litmus(
    name: str, asks: str, question: str, setup: Thread, threads: dict[str, Thread], config: Config = DEFAULT
) -> None:
    assert asks in PROPERTIES or asks in (NO_KERNEL_BUG, NO_DEADLOCK)
    LITMUS[name] = Litmus(name, asks, question, setup, threads, config)


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


# The review's remark: the purged marker is looked for without the pte lock


def _load(k: Kernel, mm: int = 0, address: int = 0) -> Steps[int | str]:
    return (yield from load(k, mm, address))


def _store(k: Kernel, mm: int = 0, address: int = 0, value: int = 7) -> Steps[int | str]:
    return (yield from store(k, mm, address, value))


def _dontneed_then_load(k: Kernel) -> Steps[int | str]:
    yield from madvise_dontneed(k, 0, 0, 1)
    return (yield from load(k, 0, 0))


_litmus(
    "marker_check_unlocked",
    "no_false_sigbus",
    "handle_pte_fault tests is_purged_entry without the pte lock; another thread drops the page meanwhile",
    volatile_pages,
    {"cpu0": _load, "cpu1": _dontneed_then_load, "kswapd": reclaimer},
)


def _volatile_in_swap(k: Kernel) -> Steps[None]:
    yield from swapped_page(k)
    yield from mark(k, 0)


def _store_then_scan(k: Kernel) -> Steps[int]:
    yield from store(k, 0, 0, 7)
    yield age_all_pages(k)
    return (yield from reclaim(k, 1))


_litmus(
    "marker_check_unlocked_swap_entry",
    "no_false_sigbus",
    "the unlocked look sees a swap entry; the page comes in, is purged, and do_swap_page goes on with the old entry",
    _volatile_in_swap,
    {"cpu0": _load, "cpu1": _store_then_scan},
)

_litmus(
    "marker_check_torn",
    "no_false_sigbus",
    "the pte is read in two halves (32-bit PAE, all memory below 4 GiB) while another thread faults the page in",
    volatile_pages,
    {"cpu0": _load, "cpu1": _dontneed_then_load, "kswapd": reclaimer},
    TORN,
)


def _mapped_only(k: Kernel) -> Steps[None]:
    yield from do_mmap(k, 0, 0, 1)


_litmus(
    "marker_check_torn_high_memory",
    "no_false_sigbus",
    "the same, with page frames at 112 GiB, whose numbers' high half looks like the purged swap type (28)",
    _mapped_only,
    {"cpu0": _load, "cpu1": _store},
    Config(torn_reads=True, pfn_high=28),
)

# Unmark against purge


def _unmark_then_load(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from load(k, 0, 0)
    return ret, value


_litmus(
    "unmark_against_purge",
    "no_lost_report",
    "try_to_purge_vpage has read VM_VOLATILE; the unmark clears it and finds no marker; then the pte is purged",
    volatile_pages,
    {"cpu0": _unmark_then_load, "kswapd": reclaimer},
)


def _child_unmarks(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 1)
    value = yield from load(k, 1, 0)
    return ret, value


def _shared_volatile(k: Kernel) -> Steps[None]:
    yield from shared_page(k, True, True)


_litmus(
    "unmark_of_a_sharer_against_purge",
    "all_sharers_or_none",
    "the child unmarks while the purge is between the parent's pte and the child's",
    _shared_volatile,
    {"cpu0": _child_unmarks, "kswapd": reclaimer},
)

# Sharers


def _parent_volatile(k: Kernel) -> Steps[None]:
    yield from shared_page(k, True, False)


def _child_volatile(k: Kernel) -> Steps[None]:
    yield from shared_page(k, False, True)


def _child_loads(k: Kernel) -> Steps[int | str]:
    return (yield from load(k, 1, 0))


_litmus(
    "purge_stops_half_way",
    "all_sharers_or_none",
    "the parent's mapping is volatile, the child's is not: try_to_purge_vpage purges the parent, then stops",
    _parent_volatile,
    {"cpu0": _load, "kswapd": reclaimer},
)

_litmus(
    "shared_page_starves",
    "no_starvation",
    "the child's mapping is volatile, the parent's is not: PAGEREF_PURGE, it fails, PAGEREF_KEEP, for ever",
    _child_volatile,
    {"cpu0": _child_loads, "kswapd": partial(reclaimer, scans=3)},
)


def _parent_has_moved_on(k: Kernel) -> Steps[None]:
    yield from pages(k)
    yield from fork(k, 0, 1)
    yield from store(k, 0, 0, 5)
    yield from mark(k, 1)
    yield age_all_pages(k)


_litmus(
    "unmapped_sharer_starves",
    "no_starvation",
    "the parent has its own copy by now and does not map the child's volatile page; its VMA still forbids the purge",
    _parent_has_moved_on,
    {"kswapd": partial(reclaimer, scans=5)},
)


def _child_in_swap(k: Kernel) -> Steps[None]:
    yield from pages(k)
    yield from mark(k, 0)
    yield from fork(k, 0, 1)
    yield from unmark(k, 0)
    yield from unmark(k, 1)
    yield from reclaim(k, 3)
    yield from load(k, 0, 0)
    yield from mark(k, 0)
    yield from mark(k, 1)
    yield age_all_pages(k)


_litmus(
    "sharer_in_swap",
    "all_sharers_or_none",
    "the parent has the page from the swap cache, the child's pte is still a swap entry; both are volatile",
    _child_in_swap,
    {"cpu0": _child_loads, "kswapd": reclaimer},
)


def _pin_for_a_while(k: Kernel) -> Steps[None]:
    page = yield from get_user_pages(k, 0, 0)
    if page:
        yield from put_user_page(k, page)


_litmus(
    "page_with_a_reference",
    "exact_accounting",
    "get_user_pages holds the page: every pte is purged, page_freeze_refs fails, the page is kept",
    volatile_pages,
    {"cpu0": _pin_for_a_while, "kswapd": partial(reclaimer, scans=2)},
)

# Address-space changes against purge


def _fork(k: Kernel) -> Steps[int]:
    return (yield from fork(k, 0, 1))


_litmus(
    "fork_against_purge",
    "all_sharers_or_none",
    "fork copies the ptes while the purge walks the anon_vma",
    volatile_pages,
    {"cpu0": _fork, "kswapd": reclaimer},
)


def _munmap(k: Kernel) -> Steps[int]:
    return (yield from do_munmap(k, 0, 0, 1))


def _child_exits(k: Kernel) -> Steps[int]:
    return (yield from exit_mmap(k, 1))


_litmus(
    "munmap_against_purge",
    "exact_accounting",
    "the volatile page is unmapped while it is purged",
    volatile_pages,
    {"cpu0": _munmap, "kswapd": reclaimer},
)

_litmus(
    "exit_against_purge",
    "exact_accounting",
    "the child exits while the page it shares is purged",
    _shared_volatile,
    {"cpu0": _child_exits, "kswapd": reclaimer},
)


def _child_stores(k: Kernel) -> Steps[int | str]:
    return (yield from store(k, 1, 0, 9))


_litmus(
    "copy_on_write_against_purge",
    "no_wrong_data",
    "the child writes to the shared volatile page while it is purged",
    _shared_volatile,
    {"cpu0": _child_stores, "kswapd": reclaimer},
    Config(frames=3),
)


def _mlock(k: Kernel) -> Steps[tuple[int, Any]]:
    ret = yield from mlock(k, 0, 0, 1)
    value = yield from load(k, 0, 0)
    return ret, value


_litmus(
    "mlock_against_purge",
    NO_KERNEL_BUG,
    "mlock sets VM_LOCKED after page_referenced looked and before try_to_purge_one does: BUG_ON",
    volatile_pages,
    {"cpu0": _mlock, "kswapd": reclaimer},
)


def _unmark_first_of_two(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0, 0, 1)
    value = yield from load(k, 0, 0)
    return ret, value


def _two_volatile_pages(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k, 2)


_litmus(
    "split_against_purge",
    "no_lost_report",
    "one of two volatile pages is unmarked, which splits the VMA under the purge",
    _two_volatile_pages,
    {"cpu0": _unmark_first_of_two, "kswapd": partial(reclaimer, scans=2)},
)


def _store_two(k: Kernel) -> Steps[tuple[Any, Any]]:
    one = yield from store(k, 0, 0, 8)
    two = yield from load(k, 0, 0)
    return one, two


_litmus(
    "touch_against_purge",
    "no_wrong_data",
    "a store and a load to a volatile page while it is purged: all of it there, or SIGBUS",
    volatile_pages,
    {"cpu0": _store_two, "cpu1": _load, "kswapd": reclaimer},
)


def _swap_cache_page(k: Kernel) -> Steps[None]:
    yield from swapped_page(k)
    yield from load(k, 0, 0)
    yield from mark(k, 0)
    yield age_all_pages(k)


def _system_call(k: Kernel) -> Steps[int | str]:
    return (yield from copy_from_user(k, 0, 0))


_litmus(
    "swap_cache_page_purged",
    "exact_accounting",
    "the volatile page is still in the swap cache: try_to_free_swap gives the slot back",
    _swap_cache_page,
    {"cpu0": _system_call, "cpu1": _store, "kswapd": reclaimer},
)

_litmus(
    "two_reclaimers",
    "exact_accounting",
    "kswapd and a direct reclaimer scan two volatile pages while one is touched",
    _two_volatile_pages,
    {"cpu0": _load, "cpu1": reclaimer, "kswapd": reclaimer},
)

# Larger mixtures: nothing in particular is suspected


def _parent_unmarks_and_loads(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from load(k, 0, 0)
    return ret, value


_litmus(
    "parent_and_child_and_kswapd",
    "no_wrong_data",
    "the parent unmarks and reads, the child writes, kswapd scans",
    _shared_volatile,
    {"cpu0": _parent_unmarks_and_loads, "cpu1": _child_stores, "kswapd": reclaimer},
    Config(frames=4, slots=0),
)


def _mark_unmark(k: Kernel) -> Steps[tuple[Any, Any, Any]]:
    yield from mark(k, 0)
    first = yield from unmark(k, 0)
    value = yield from store(k, 0, 0, 5)
    return first, value, 0


def _one_page(k: Kernel) -> Steps[None]:
    yield from pages(k)


_litmus(
    "two_threads_and_kswapd",
    "no_wrong_data",
    "one thread marks, unmarks and refills, another stores, kswapd scans",
    _one_page,
    {"cpu0": _mark_unmark, "cpu1": _store, "kswapd": reclaimer},
    Config(slots=0),
)


def _fork_then_load(k: Kernel) -> Steps[int | str]:
    yield from fork(k, 0, 1)
    return (yield from load(k, 1, 0))


_litmus(
    "fork_and_touch_against_purge",
    "no_wrong_data",
    "one thread forks and the child reads, another writes to the volatile page, kswapd scans twice",
    volatile_pages,
    {"cpu0": _fork_then_load, "cpu1": _store, "kswapd": partial(reclaimer, scans=2)},
    Config(frames=4),
)

# Secondary mappings


def _secondary_mapped(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k)
    yield from map_in_secondary(k, 0, 0)


def _unmark_and_refill(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from store(k, 0, 0, 9)
    return ret, value


_litmus(
    "secondary_mapping_outlives",
    "no_stale_secondary",
    "the secondary MMU still maps the purged page when the program has unmarked and filled a new one",
    _secondary_mapped,
    {"cpu0": _unmark_and_refill, "kswapd": reclaimer},
)


def _secondary_fault(k: Kernel) -> Steps[int]:
    return (yield from map_in_secondary(k, 0, 0))


_litmus(
    "secondary_fault_against_purge",
    "no_stale_secondary",
    "the secondary MMU faults the page in while it is purged",
    volatile_pages,
    {"cpu0": _secondary_fault, "kswapd": reclaimer},
)

# The call itself


def _three_pages(k: Kernel) -> Steps[None]:
    yield from do_mmap(k, 0, 0, 3)
    for address in range(3):
        yield from store(k, 0, address, address + 1)


def _mark_in_pieces(k: Kernel) -> Steps[int]:
    yield from mark(k, 0, 0, 1)
    yield from mark(k, 0, 1, 1)
    yield age_all_pages(k)
    return (yield from reclaim(k, 3))


_litmus(
    "mark_next_to_volatile",
    "no_lost_report",
    "marking the page behind a volatile one: vma_merge moves the border, the flags land on what is left behind it",
    _three_pages,
    {"cpu0": _mark_in_pieces},
    Config(addresses=3, frames=4),
)


def _mark_twice(k: Kernel) -> Steps[tuple[int, int]]:
    yield from mark(k, 0, 0, 1)
    return (yield from mark(k, 0, 1, 2))


_litmus(
    "mark_up_to_volatile",
    NO_KERNEL_BUG,
    "marking all the rest behind a volatile page: vma_merge frees the VMA whose flags are then written",
    _three_pages,
    {"cpu0": _mark_twice},
    Config(addresses=3, frames=4),
)


def _unmark_too_far(k: Kernel) -> Steps[tuple[int, int]]:
    yield from mark(k, 0, 0, 3)
    return (yield from unmark(k, 0, 0, 4))


_litmus(
    "unmark_past_the_last_vma",
    NO_KERNEL_BUG,
    "a range that goes on behind the last VMA: v13 walks from a NULL VMA, v14 reads vma->vm_end of one",
    _three_pages,
    {"cpu0": _unmark_too_far},
    Config(addresses=3, frames=4),
)


def _unmark_mark_unmark(k: Kernel) -> Steps[tuple[Any, Any]]:
    first = yield from unmark(k, 0)
    yield from mark(k, 0)
    second = yield from unmark(k, 0)
    return first, second


def _purged_page(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k)
    yield from reclaim(k, 1)


_litmus(
    "stale_marker",
    "no_false_report",
    "unmark leaves the purged marker (v12): volatile again, the page looks purged at once",
    _purged_page,
    {"cpu0": _unmark_mark_unmark},
)


def _unmark_with_bad_pointer(k: Kernel) -> Steps[tuple[int, int]]:
    return (yield from mvolatile(k, 0, 0, 1, MVOLATILE_NONVOLATILE, fault=2))


_litmus(
    "bad_pointer_on_return",
    "no_lost_report",
    "the second store to *purged faults: EFAULT, although the memory is non-volatile now and the result is gone",
    _purged_page,
    {"cpu0": _unmark_with_bad_pointer},
)


def _mincore(k: Kernel) -> Steps[int]:
    return (yield from mincore(k, 0, 0))


_litmus(
    "mincore_of_a_purged_page",
    NO_KERNEL_BUG,
    "mincore takes any non-migration entry for a swap slot and indexes swapper_spaces[] by its type",
    _purged_page,
    {"cpu0": _mincore},
)
