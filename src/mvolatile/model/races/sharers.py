"""A page that several processes share, or that something else holds a reference to."""

from __future__ import annotations

from functools import partial

from ..fork import fork
from ..litmus import CHILD_LOAD, LOAD, Litmus, mark, pages, reclaimer, shared_page, unmark, volatile_pages
from ..state import Kernel
from ..steps import Steps
from ..user import get_user_pages, load, put_user_page, store
from ..vmscan import age_all_pages, reclaim


def _parent_volatile(k: Kernel) -> Steps[None]:
    yield from shared_page(k, True, False)


def _child_volatile(k: Kernel) -> Steps[None]:
    yield from shared_page(k, False, True)


def _parent_has_moved_on(k: Kernel) -> Steps[None]:
    yield from pages(k)
    yield from fork(k, 0, 1)
    yield from store(k, 0, 0, 5)
    yield from mark(k, 1)
    yield age_all_pages(k)


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


def _pin_for_a_while(k: Kernel) -> Steps[None]:
    page = yield from get_user_pages(k, 0, 0)
    if page:
        yield from put_user_page(k, page)


RACES = (
    Litmus(
        "purge_stops_half_way",
        "all_sharers_or_none",
        "the parent's mapping is volatile, the child's is not: try_to_purge_vpage purges the parent, then stops",
        _parent_volatile,
        {"cpu0": LOAD, "kswapd": reclaimer},
    ),
    Litmus(
        "shared_page_starves",
        "no_starvation",
        "the child's mapping is volatile, the parent's is not: PAGEREF_PURGE, it fails, PAGEREF_KEEP, for ever",
        _child_volatile,
        {"cpu0": CHILD_LOAD, "kswapd": partial(reclaimer, scans=3)},
    ),
    Litmus(
        "unmapped_sharer_starves",
        "no_starvation",
        "the parent has a copy of its own and no pte for the child's volatile page; its VMA still forbids the purge",
        _parent_has_moved_on,
        {"kswapd": partial(reclaimer, scans=5)},
    ),
    Litmus(
        "sharer_in_swap",
        "all_sharers_or_none",
        "the parent has the page from the swap cache, the child's pte is still a swap entry; both are volatile",
        _child_in_swap,
        {"cpu0": CHILD_LOAD, "kswapd": reclaimer},
    ),
    Litmus(
        "page_with_a_reference",
        "exact_accounting",
        "get_user_pages holds the page: every pte is purged, page_freeze_refs fails, the page is kept",
        volatile_pages,
        {"cpu0": _pin_for_a_while, "kswapd": partial(reclaimer, scans=2)},
    ),
)
