"""mm/rmap.c: from a page to the ptes that map it, and the patch's hook in `page_referenced_one`."""

from __future__ import annotations

from typing import NamedTuple

from .mmu_notifier import mmu_notifier_invalidate_page
from .page import (
    add_mm_counters,
    change_flags,
    mlock_vma_page,
    page_cache_release,
    page_mapped,
    page_remove_rmap,
    read_flags,
    update_hiwater_rss,
)
from .pgtable import pte_dirty, pte_pfn, pte_present, swp_entry_to_pte
from .ptes import (
    pte_under_lock,
    pte_unlocked,
    ptep_clear_flush,
    ptep_clear_flush_young_notify,
    set_pte_at,
)
from .state import VM_LOCKED, VM_VOLATILE, Kernel, PG_dirty, PG_swapcache
from .steps import (
    Steps,
    anon_vma_lock_read,
    anon_vma_trylock_read,
    anon_vma_unlock_read,
    down_read_trylock,
    pte_unmap_unlock,
    read,
    spin_lock,
    up_read,
)
from .swap import swap_duplicate
from .vma import Sharer, anon_vma_interval_tree, put_anon_vma, read_root, read_vm_flags

SWAP_SUCCESS, SWAP_AGAIN, SWAP_FAIL, SWAP_MLOCK = range(4)


def page_check_address(k: Kernel, page: int, mm: int, address: int) -> Steps[int]:
    """`page_check_address(page, mm, address, &ptl, sync=0)`: the pte that maps the page, its lock held; or 0.

    The first look is without the lock.
    """
    pte = yield pte_unlocked(k, mm, address)
    if not pte_present(pte):
        return 0
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    if pte_present(pte) and pte_pfn(pte) == k.pfn(page):
        return int(pte)
    yield pte_unmap_unlock(k, mm)
    return 0


def page_lock_anon_vma_read(k: Kernel, page: int) -> Steps[tuple[int, int]]:
    """`page_lock_anon_vma_read()`: the page's (anon_vma, its root) with the root's rwsem held; or (-1, -1).

    The page may be unmapped, and its anon_vma freed, at any time before the lock is held. A page that is still mapped
    then keeps its anon_vma; who has to sleep for the lock takes a reference (`put_anon_vma` is its end).
    """
    anon_vma = yield read(f"page {page}->mapping", k.mapping(page))
    if anon_vma < 0:
        return -1, -1
    mapped = yield page_mapped(k, page)
    if not mapped:
        return -1, -1
    root = yield read_root(k, anon_vma)
    locked = yield anon_vma_trylock_read(k, root)
    mapped = yield page_mapped(k, page)
    if locked and not mapped:
        yield anon_vma_unlock_read(k, root)
    if not mapped:
        return -1, -1
    if not locked:
        yield anon_vma_lock_read(k, root)
        last = yield put_anon_vma(k, anon_vma)
        if last:
            yield anon_vma_unlock_read(k, root)
            return -1, -1
    return anon_vma, root


class References(NamedTuple):
    """`struct page_referenced_arg`: how many VMAs used the page, the flags of those that count, how many are left."""

    referenced: int
    vm_flags: int
    mapcount: int


def page_referenced_one(
    k: Kernel, page: int, sharer: Sharer, so_far: References
) -> Steps[tuple[References, bool]]:
    """`page_referenced_one()` with v13 4/4's hook (mm/rmap.c): the sum so far, and whether to go on.

    The hook reads VM_VOLATILE after the pte lock was dropped, and ends the walk: the sharers behind are not asked.
    """
    pte = yield from page_check_address(k, page, sharer.mm, sharer.address)
    if not pte:
        return so_far, True
    flags = yield read_vm_flags(k, sharer.vma)
    if flags & VM_LOCKED:
        yield pte_unmap_unlock(k, sharer.mm)
        return so_far._replace(vm_flags=so_far.vm_flags | VM_LOCKED), False
    young = yield ptep_clear_flush_young_notify(k, sharer.mm, sharer.address)
    yield pte_unmap_unlock(k, sharer.mm)
    flags = yield read_vm_flags(k, sharer.vma)
    if flags & VM_VOLATILE:
        so_far = so_far._replace(vm_flags=so_far.vm_flags | VM_VOLATILE)
        if k.variant.referenced_returns_early:
            return so_far._replace(mapcount=0), False
    if young:
        flags = yield read_vm_flags(k, sharer.vma)
        so_far = so_far._replace(referenced=so_far.referenced + 1, vm_flags=so_far.vm_flags | flags)
    so_far = so_far._replace(mapcount=so_far.mapcount - 1)
    return so_far, so_far.mapcount != 0


def page_referenced(k: Kernel, page: int) -> Steps[References]:
    """`page_referenced()`: asks and resets the young bits of all that map the page."""
    mapcount = yield read(f"page_mapcount(page {page})", k.mapcount(page))
    found = References(0, 0, mapcount)
    mapped = yield page_mapped(k, page)
    if not mapped:
        return found
    anon_vma, root = yield from page_lock_anon_vma_read(k, page)
    if anon_vma < 0:
        return found
    sharers = yield anon_vma_interval_tree(k, anon_vma, page)
    for at in range(len(sharers)):
        found, go_on = yield from page_referenced_one(k, page, sharers[at], found)
        if not go_on:
            break
    yield anon_vma_unlock_read(k, root)
    return found


def try_to_unmap_one(k: Kernel, page: int, sharer: Sharer) -> Steps[int]:
    """`try_to_unmap_one()` with TTU_UNMAP for an anonymous page: its pte becomes a swap entry."""
    mm, address = sharer.mm, sharer.address
    pte = yield from page_check_address(k, page, mm, address)
    if not pte:
        return SWAP_AGAIN
    flags = yield read_vm_flags(k, sharer.vma)
    if flags & VM_LOCKED:
        yield pte_unmap_unlock(k, mm)
        ret = yield from _mlock_instead(k, page, sharer)
        return int(ret)
    young = yield ptep_clear_flush_young_notify(k, mm, address)
    if young:
        yield pte_unmap_unlock(k, mm)
        return SWAP_FAIL
    old = yield from ptep_clear_flush(k, mm, address)
    if pte_dirty(old):
        yield change_flags(k, page, "set_page_dirty", PG_dirty)
    yield update_hiwater_rss(k, mm)
    page_flags = yield read_flags(k, page, "PageSwapCache")
    if not page_flags & PG_swapcache:
        raise AssertionError("no_kernel_bug: BUG_ON(TTU_ACTION(flags) != TTU_MIGRATION) in try_to_unmap_one")
    entry = yield read(f"page_private(page {page})", k.private(page))
    yield swap_duplicate(k, entry)
    yield add_mm_counters(k, mm, -1, 1)
    yield from set_pte_at(k, mm, address, swp_entry_to_pte(entry))
    yield page_remove_rmap(k, page)
    yield page_cache_release(k, page)
    yield pte_unmap_unlock(k, mm)
    yield mmu_notifier_invalidate_page(k, mm, address)
    return SWAP_AGAIN


def _mlock_instead(k: Kernel, page: int, sharer: Sharer) -> Steps[int]:
    """The `out_mlock` end of `try_to_unmap_one`: the page belongs on the unevictable list."""
    got_sem = yield down_read_trylock(k, sharer.mm)
    if not got_sem:
        return SWAP_AGAIN
    flags = yield read_vm_flags(k, sharer.vma)
    if flags & VM_LOCKED:
        yield mlock_vma_page(k, page)
    yield up_read(k, sharer.mm)
    return SWAP_MLOCK if flags & VM_LOCKED else SWAP_AGAIN


def try_to_unmap(k: Kernel, page: int) -> Steps[int]:
    """`try_to_unmap(page, TTU_UNMAP)`."""
    ret = SWAP_AGAIN
    anon_vma, root = yield from page_lock_anon_vma_read(k, page)
    if anon_vma >= 0:
        sharers = yield anon_vma_interval_tree(k, anon_vma, page)
        for at in range(len(sharers)):
            ret = yield from try_to_unmap_one(k, page, sharers[at])
            if ret != SWAP_AGAIN:
                break
            mapped = yield page_mapped(k, page)
            if not mapped:
                break
        yield anon_vma_unlock_read(k, root)
    mapped = yield page_mapped(k, page)
    if ret != SWAP_MLOCK and not mapped:
        ret = SWAP_SUCCESS
    return ret
