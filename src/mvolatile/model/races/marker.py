"""The review's remark: the fault path looks for the purged marker without the pte lock."""

from __future__ import annotations

from ..litmus import LOAD, STORE, TORN, Litmus, reclaimer, swap_volatile, volatile_pages
from ..mmap import do_mmap, madvise_dontneed
from ..state import Config, Kernel
from ..steps import Steps
from ..user import load, store
from ..vmscan import age_all_pages, reclaim


def _dontneed_then_load(k: Kernel) -> Steps[int | str]:
    yield from madvise_dontneed(k, 0, 0, 1)
    return (yield from load(k, 0, 0))


def _store_then_scan(k: Kernel) -> Steps[int]:
    yield from store(k, 0, 0, 7)
    yield age_all_pages(k)
    return (yield from reclaim(k, 1))


def _mapped_only(k: Kernel) -> Steps[None]:
    yield from do_mmap(k, 0, 0, 1)


RACES = (
    Litmus(
        "marker_check_unlocked",
        "no_false_sigbus",
        "handle_pte_fault tests is_purged_entry without the pte lock; another thread drops the page meanwhile",
        volatile_pages,
        {"cpu0": LOAD, "cpu1": _dontneed_then_load, "kswapd": reclaimer},
    ),
    Litmus(
        "marker_check_unlocked_swap_entry",
        "no_false_sigbus",
        "the unlocked look sees a swap entry; the page comes in and is purged; do_swap_page goes on with it",
        swap_volatile,
        {"cpu0": LOAD, "cpu1": _store_then_scan},
    ),
    Litmus(
        "marker_check_torn",
        "no_false_sigbus",
        "the pte is read in two halves (32-bit PAE, all memory below 4 GiB) while another thread faults the page in",
        volatile_pages,
        {"cpu0": LOAD, "cpu1": _dontneed_then_load, "kswapd": reclaimer},
        TORN,
    ),
    Litmus(
        "marker_check_torn_high_memory",
        "no_false_sigbus",
        "the same, with page frames at 112 GiB, whose numbers' high half looks like the purged swap type (28)",
        _mapped_only,
        {"cpu0": LOAD, "cpu1": STORE},
        Config(torn_reads=True, pfn_high=28),
    ),
)
