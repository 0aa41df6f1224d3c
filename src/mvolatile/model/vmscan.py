"""mm/vmscan.c: a scan of the LRU lists' tails, with the patch's PAGEREF_PURGE, and ordinary swap-out."""

from __future__ import annotations

from functools import cache

from .page import (
    change_flags,
    free_hot_cold_page,
    isolate_lru_page,
    page_count,
    page_freeze_refs,
    page_mapped,
    page_unfreeze_refs,
    putback_lru_page,
    read_flags,
)
from .pgtable import pte_mkold, pte_present
from .purge import purge_volatile_page
from .rmap import SWAP_AGAIN, SWAP_FAIL, SWAP_MLOCK, page_referenced, try_to_unmap
from .state import (
    ACTIVE_ANON,
    INACTIVE_ANON,
    STARVED,
    SWAP_HAS_CACHE,
    VM_LOCKED,
    VM_VOLATILE,
    Kernel,
    PG_active,
    PG_dirty,
    PG_mlocked,
    PG_referenced,
    PG_swapbacked,
    PG_swapcache,
    PG_writeback,
    World,
)
from .steps import Op, Steps, puts, read, trylock_page, unlock_page
from .swap import (
    add_to_swap,
    page_private,
    remove_from_swap_cache,
    swap_entry_free,
    swap_writepage,
    try_to_free_swap,
)

PAGEREF_RECLAIM = "PAGEREF_RECLAIM"
PAGEREF_RECLAIM_CLEAN = "PAGEREF_RECLAIM_CLEAN"
PAGEREF_KEEP = "PAGEREF_KEEP"
PAGEREF_PURGE = "PAGEREF_PURGE"
PAGEREF_ACTIVATE = "PAGEREF_ACTIVATE"


def page_check_references(k: Kernel, page: int) -> Steps[tuple[str, str]]:
    """`page_check_references()` with v13 4/4's hook: what to do with the page, and what if it cannot be purged.

    VM_LOCKED is asked before VM_VOLATILE, and both before the references: a volatile page at the tail goes,
    however recently it was used. PG_swapbacked comes with PG_referenced: a page on the LRU keeps it to its end.
    """
    found = yield from page_referenced(k, page)
    old = yield change_flags(k, page, "TestClearPageReferenced", 0, PG_referenced)
    if found.vm_flags & VM_LOCKED:
        return PAGEREF_RECLAIM, PAGEREF_KEEP
    otherwise = PAGEREF_RECLAIM
    if found.referenced and old & PG_swapbacked:
        otherwise = PAGEREF_ACTIVATE
    elif found.referenced:
        yield change_flags(k, page, "SetPageReferenced", PG_referenced)
        otherwise = PAGEREF_ACTIVATE if old & PG_referenced or found.referenced > 1 else PAGEREF_KEEP
    elif old & PG_referenced and not old & PG_swapbacked:
        otherwise = PAGEREF_RECLAIM_CLEAN
    if found.vm_flags & VM_VOLATILE:
        return PAGEREF_PURGE, otherwise
    return otherwise, PAGEREF_KEEP


@cache
def purge_has_failed(k: Kernel, page: int) -> Op:
    """Ghost: a purge failed and the page is kept. If everything about the page stands exactly as it stood when the
    last one failed, every further scan will end the same way: the page starves reclaim."""
    kept, wrong = k.kept(page), k.page_wrong(page)
    pages = range(k.config.processes * k.config.addresses)
    cells = [
        k.mapcount(page),
        k.count(page),
        k.mapping(page),
        k.pins(page),
        *(k.pte(0, 0) + at for at in pages),
        *(k.vm_flags(vma) for vma in range(k.config.vmas)),
    ]

    def perform(world: World) -> tuple[World, None]:
        now = tuple(world[cell] for cell in cells)
        same = world[kept] == now and world[k.mapcount(page)] and not world[k.pins(page)]
        sin = STARVED if same else 0
        return puts(world, (kept, now), (wrong, world[wrong] | sin)), None

    return Op(f"page {page} could not be purged and is kept", perform, reads=cells, writes=(kept, wrong))


def shrink_page_list(k: Kernel, page: int) -> Steps[int]:
    """`shrink_page_list()` on one isolated page: 1 if it was reclaimed. Everything else ends on a list again.

    v13 4/4's case falls through: a purge that succeeds goes to `free_it` (the page comes back unlocked), one that
    fails falls into PAGEREF_KEEP and goes to `keep_locked`.
    """
    locked = yield trylock_page(k, page)
    if not locked:
        return (yield from _keep(k, page))
    flags = yield read_flags(k, page, "page_evictable")
    if flags & PG_mlocked:
        return (yield from _cull_mlocked(k, page))
    flags = yield read_flags(k, page, "PageWriteback")
    if flags & PG_writeback:
        return (yield from _keep_locked(k, page))
    del flags
    references, otherwise = yield from page_check_references(k, page)
    if references == PAGEREF_PURGE:
        failed = yield from purge_volatile_page(k, page)
        if not failed:
            yield free_hot_cold_page(k, page)
            return 1
        references = PAGEREF_KEEP
        if k.variant.failed_purge == "reclaim":
            # A page that lost its ptes and is only referenced needs no swap slot: it goes with the reference.
            mapped = yield page_mapped(k, page)
            references = otherwise if mapped else PAGEREF_KEEP
        if references == PAGEREF_KEEP:
            yield purge_has_failed(k, page)
    del otherwise
    if references == PAGEREF_ACTIVATE:
        return (yield from _activate_locked(k, page))
    if references == PAGEREF_KEEP:
        return (yield from _keep_locked(k, page))
    return (yield from _swap_out(k, page, references))


def _swap_out(k: Kernel, page: int, references: str) -> Steps[int]:
    """The lower half of `shrink_page_list`: a swap slot, the ptes, the device, the swap cache."""
    flags = yield read_flags(k, page, "PageSwapCache")
    anon = yield read(f"PageAnon(page {page})", k.mapping(page))
    if anon >= 0 and not flags & PG_swapcache:
        added = yield from add_to_swap(k, page)
        if not added:
            return (yield from _activate_locked(k, page))
    mapped = yield page_mapped(k, page)
    if mapped and anon >= 0:
        ret = yield from try_to_unmap(k, page)
        if ret == SWAP_FAIL:
            return (yield from _activate_locked(k, page))
        if ret == SWAP_AGAIN:
            return (yield from _keep_locked(k, page))
        if ret == SWAP_MLOCK:
            return (yield from _cull_mlocked(k, page))
    flags = yield read_flags(k, page, "PageDirty")
    if flags & PG_dirty:
        if references == PAGEREF_RECLAIM_CLEAN:
            return (yield from _keep_locked(k, page))
        written = yield from pageout(k, page)
        if written == "PAGE_KEEP":
            return (yield from _keep_locked(k, page))
        kept = yield from _try_again_after_pageout(k, page)
        if kept is not None:
            return kept
    removed = yield from __remove_mapping(k, page)
    if not removed:
        return (yield from _keep_locked(k, page))
    yield unlock_page(k, page)
    yield free_hot_cold_page(k, page)
    return 1


def _try_again_after_pageout(k: Kernel, page: int) -> Steps[int | None]:
    """The case PAGE_SUCCESS: None if the page, written by now, is locked again and still clean; else it is kept."""
    for what, bit in (("PageWriteback", PG_writeback), ("PageDirty", PG_dirty)):
        flags = yield read_flags(k, page, what)
        if flags & bit:
            return (yield from _keep(k, page))
    locked = yield trylock_page(k, page)
    if not locked:
        return (yield from _keep(k, page))
    for what, bit in (("PageDirty", PG_dirty), ("PageWriteback", PG_writeback)):
        flags = yield read_flags(k, page, what)
        if flags & bit:
            return (yield from _keep_locked(k, page))
    return None


def pageout(k: Kernel, page: int) -> Steps[str]:
    """`pageout()`: PAGE_KEEP if somebody else holds the page, else it is written, and comes back unlocked."""
    count = yield page_count(k, page)
    flags = yield read_flags(k, page, "page_mapping")
    if count != 2 or not flags & PG_swapcache:
        return "PAGE_KEEP"
    yield change_flags(k, page, "clear_page_dirty_for_io", 0, PG_dirty)
    yield from swap_writepage(k, page)
    return "PAGE_SUCCESS"


def __remove_mapping(k: Kernel, page: int) -> Steps[bool]:
    """`__remove_mapping()`: out of the swap cache if nobody else holds the page; its references are then 0."""
    flags = yield read_flags(k, page, "page_mapping")
    if not flags & PG_swapcache:
        return False
    frozen = yield page_freeze_refs(k, page, 2)
    if not frozen:
        return False
    flags = yield read_flags(k, page, "PageDirty")
    if flags & PG_dirty:
        yield page_unfreeze_refs(k, page, 2)
        return False
    entry = yield page_private(k, page)
    yield remove_from_swap_cache(k, page, entry)
    yield swap_entry_free(k, entry, SWAP_HAS_CACHE)
    return True


def _cull_mlocked(k: Kernel, page: int) -> Steps[int]:
    yield from try_to_free_swap(k, page)
    return (yield from _keep_locked(k, page))


def _activate_locked(k: Kernel, page: int) -> Steps[int]:
    yield change_flags(k, page, "SetPageActive", PG_active)
    return (yield from _keep_locked(k, page))


def _keep_locked(k: Kernel, page: int) -> Steps[int]:
    yield unlock_page(k, page)
    return (yield from _keep(k, page))


def _keep(k: Kernel, page: int) -> Steps[int]:
    yield putback_lru_page(k, page)
    return 0


def shrink_active_list(k: Kernel) -> Steps[None]:
    """`shrink_active_list()`: the tail of the active list becomes the head of the inactive one."""
    page = yield isolate_lru_page(k, ACTIVE_ANON)
    if not page:
        return
    yield from page_referenced(k, page)
    yield change_flags(k, page, "ClearPageActive", 0, PG_active)
    yield putback_lru_page(k, page)


def shrink_inactive_list(k: Kernel) -> Steps[int]:
    """`shrink_inactive_list()`: one page from the tail; 1 if it was reclaimed."""
    page = yield isolate_lru_page(k, INACTIVE_ANON)
    if not page:
        return 0
    return (yield from shrink_page_list(k, page))


def reclaim(k: Kernel, scans: int = 1) -> Steps[int]:
    """kswapd: so many pages of the inactive anonymous list are scanned. Pages reclaimed."""
    reclaimed = 0
    for _scan in range(scans):
        got = yield from shrink_inactive_list(k)
        reclaimed += got
        del got
    return reclaimed


@cache
def age_all_pages(k: Kernel) -> Op:
    """For the beginning of a litmus test: time has passed, nothing was used, every page is inactive."""
    active, inactive = k.lru(ACTIVE_ANON), k.lru(INACTIVE_ANON)
    ptes = range(k.pte(0, 0), k.pte(0, 0) + k.config.processes * k.config.addresses)
    flags = [k.flags(page) for page in range(1, k.config.frames + 1)]

    def perform(world: World) -> tuple[World, None]:
        return (
            puts(
                world,
                *((cell, world[cell] & ~(PG_active | PG_referenced)) for cell in flags),
                *(
                    (cell, pte_mkold(world[cell]) if pte_present(world[cell]) else world[cell])
                    for cell in ptes
                ),
                (inactive, world[active] + world[inactive]),
                (active, ()),
            ),
            None,
        )

    return Op("age all pages", perform, writes=(active, inactive, *flags, *ptes))
