"""mm/mvolatile.c, the purge (v13 4/4): from a page at the LRU's tail to purged markers in the ptes that mapped it."""

from __future__ import annotations

from functools import cache

from .mmu_notifier import (
    mmu_notifier_invalidate_page,
    mmu_notifier_invalidate_range_end,
    mmu_notifier_invalidate_range_start,
)
from .page import (
    add_mm_counters,
    page_cache_release,
    page_freeze_refs,
    page_remove_rmap,
    read_flags,
    update_hiwater_rss,
)
from .pgtable import PTE_PURGED, pte_pfn, pte_present, swp_entry_to_pte, swp_offset
from .ptes import pte_under_lock, ptep_clear_flush, set_pte_at
from .rmap import page_check_address, page_lock_anon_vma_read
from .state import (
    HALF_PURGED,
    LOST,
    PURGED_NONVOLATILE,
    SWAP_HAS_CACHE,
    VM_LOCKED,
    VM_VOLATILE,
    WASTED,
    Kernel,
    KernelBug,
    PG_lru,
    PG_swapcache,
    World,
)
from .steps import Op, Steps, anon_vma_unlock_read, pte_unmap_unlock, put, puts, spin_lock, unlock_page
from .swap import page_swapcount, try_to_free_swap
from .vma import Sharer, anon_vma_interval_tree, read_vm_flags


@cache
def page_is_lost(k: Kernel, mm: int, address: int) -> Op:
    """Ghost, the pte lock held and the pte cleared: the kernel has taken the page. Was it allowed to?"""
    ghost, wrong = k.ghost(mm, address), k.wrong(mm, address)

    def perform(world: World) -> tuple[World, None]:
        expect, volatile, _ = world[ghost]
        sin = 0 if volatile else PURGED_NONVOLATILE
        return puts(world, (ghost, (expect, volatile, LOST)), (wrong, world[wrong] | sin)), None

    return Op(f"mm{mm} loses page {address}", perform, writes=(ghost, wrong))


@cache
def walk_is_over(k: Kernel, page: int) -> Op:
    """Ghost: this purge took the page from a process. Does any pte still hold it, or its swap slot?"""
    wrong = k.page_wrong(page)
    ptes = range(k.pte(0, 0), k.pte(0, 0) + k.config.processes * k.config.addresses)

    def perform(world: World) -> tuple[World, None]:
        present = any(pte_present(world[at]) and k.page(pte_pfn(world[at])) == page for at in ptes)
        slot = world[k.private(page)] if world[k.flags(page)] & PG_swapcache else 0
        if present or (slot and any(world[at] == swp_entry_to_pte(slot) for at in ptes)):
            return put(world, wrong, world[wrong] | HALF_PURGED), None
        return world, None

    reads = (k.flags(page), k.private(page), *ptes)
    return Op(f"the purge of page {page} ends", perform, reads=reads, writes=(wrong,))


def try_to_purge_one(k: Kernel, page: int, sharer: Sharer) -> Steps[str]:
    """`try_to_purge_one()` (v13 4/4): the pte becomes the purged marker. "purged", "absent" or "refused".

    In v13 and v14 nothing is asked under the pte lock: VM_VOLATILE was read before, VM_LOCKED is a `BUG_ON`.
    """
    mm, address = sharer.mm, sharer.address
    early = k.variant.notify_before_clear
    if early:
        yield mmu_notifier_invalidate_range_start(k, mm, address, address + 1)
    taken = yield from _purge_pte(k, page, sharer)
    if early:
        yield mmu_notifier_invalidate_range_end(k, mm, address, address + 1)
    elif taken == "purged":
        yield mmu_notifier_invalidate_page(k, mm, address)
    return taken


def _purge_pte(k: Kernel, page: int, sharer: Sharer) -> Steps[str]:
    mm, address = sharer.mm, sharer.address
    pte = yield from page_check_address(k, page, mm, address)
    if not pte:
        return "absent"
    flags = yield read_vm_flags(k, sharer.vma)
    if flags & VM_LOCKED and not (k.variant.locked_is_refusal or k.variant.purge_rechecks_flags):
        raise KernelBug("BUG_ON(vma->vm_flags & VM_LOCKED) in try_to_purge_one")
    refused = flags & VM_LOCKED or (k.variant.purge_rechecks_flags and not flags & VM_VOLATILE)
    if refused:
        yield pte_unmap_unlock(k, mm)
        return "refused"
    yield from ptep_clear_flush(k, mm, address)
    yield page_is_lost(k, mm, address)
    yield update_hiwater_rss(k, mm)
    yield add_mm_counters(k, mm, -1, 0)
    yield page_remove_rmap(k, page)
    yield page_cache_release(k, page)
    yield from set_pte_at(k, mm, address, PTE_PURGED)
    yield pte_unmap_unlock(k, mm)
    return "purged"


def try_to_purge_vpage(k: Kernel, page: int) -> Steps[int]:
    """`try_to_purge_vpage()` (v13 4/4): 0 if every VMA that may map the page is volatile and was purged, else -1.

    As mailed it purges while it asks, and a VMA that no longer maps the page may still forbid it.
    """
    anon_vma, root = yield from page_lock_anon_vma_read(k, page)
    if anon_vma < 0:
        return -1
    sharers = yield anon_vma_interval_tree(k, anon_vma, page)
    ret = 0
    took = False
    if k.variant.swap_sharers_count:
        ret = yield from _refused_by_swap_sharer(k, page)
    if k.variant.sharers_first and not ret:
        for at in range(len(sharers)):
            ret = yield from _refused_by(k, page, sharers[at])
            if ret:
                break
    if not ret:
        for at in range(len(sharers)):
            if not k.variant.sharers_first:
                ret = yield from _refused_by(k, page, sharers[at])
                if ret:
                    break
            purged = yield from try_to_purge_one(k, page, sharers[at])
            took = took or purged == "purged"
            if purged == "refused":
                ret = -1
                break
    if took:
        yield walk_is_over(k, page)
    yield anon_vma_unlock_read(k, root)
    return ret


def _refused_by(k: Kernel, page: int, sharer: Sharer) -> Steps[int]:
    """-1 if this VMA forbids the purge: it is not volatile (or is mlocked) and, if that is asked, maps the page."""
    flags = yield read_vm_flags(k, sharer.vma)
    locked = flags & VM_LOCKED and k.variant.locked_is_refusal
    if flags & VM_VOLATILE and not locked:
        return 0
    if k.variant.only_mappers_count:
        yield spin_lock(k, sharer.mm)
        pte = yield pte_under_lock(k, sharer.mm, sharer.address)
        yield pte_unmap_unlock(k, sharer.mm)
        if not pte_present(pte) or pte_pfn(pte) != k.pfn(page):
            return 0
    return -1


def _refused_by_swap_sharer(k: Kernel, page: int) -> Steps[int]:
    """-1 if a pte somewhere holds the page as a swap entry; no VMA's pte tells, but the slot counts them."""
    flags = yield read_flags(k, page, "PageSwapCache")
    if not flags & PG_swapcache:
        return 0
    holders = yield page_swapcount(k, page)
    return -1 if holders else 0


@cache
def page_may_be_purged(k: Kernel, page: int) -> Op:
    """`PageAnon()`, after the two VM_BUG_ON at the head of `purge_volatile_page`: locked, and off the LRU.

    One step: who locked and isolated the page is this processor, and a page in use does not stop being anonymous.
    """
    lock, flags, mapping = k.page_lock(page), k.flags(page), k.mapping(page)

    def perform(world: World) -> tuple[World, bool]:
        if not world[lock]:
            raise KernelBug("VM_BUG_ON(!PageLocked(page)) in purge_volatile_page")
        if world[flags] & PG_lru:
            raise KernelBug("VM_BUG_ON(PageLRU(page)) in purge_volatile_page")
        return world, world[mapping] >= 0

    return Op(f"PageAnon(page {page})", perform, reads=(lock, flags, mapping))


@cache
def freeze_purged_page(k: Kernel, page: int) -> Op:
    """`page_freeze_refs(page, 1)`, and what a failure leaves behind: a page that only the swap cache has, for a slot
    that nobody holds, could have been freed here."""
    freeze, wrong = page_freeze_refs(k, page, 1), k.page_wrong(page)

    def idle_slot(world: World) -> int:
        """The slot of a page that the swap cache and this processor have, and nobody else; 0 for any other."""
        cached = world[k.flags(page)] & PG_swapcache and world[k.count(page)] == 2
        return k.swap_map(swp_offset(world[k.private(page)])) if cached else 0

    def perform(world: World) -> tuple[World, bool]:
        after, frozen = freeze.perform(world)
        slot = idle_slot(world)
        if slot and world[slot] == SWAP_HAS_CACHE:
            after = put(after, wrong, after[wrong] | WASTED)
        return after, frozen

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        slot = idle_slot(world)
        reads = {k.count(page), k.flags(page), k.private(page), *((slot,) if slot else ())}
        return frozenset((*reads, wrong)), frozenset((k.count(page), wrong))

    return Op(freeze.label, perform, footprint=footprint)


def purge_volatile_page(k: Kernel, page: int) -> Steps[int]:
    """`purge_volatile_page()` (v13 4/4), the page locked and isolated: 0 when it is free to go, unlocked; else -1."""
    anon = yield page_may_be_purged(k, page)
    if not anon:
        return -1
    failed = yield from try_to_purge_vpage(k, page)
    if failed:
        return -1
    flags = yield read_flags(k, page, "PageSwapCache")
    if flags & PG_swapcache:
        yield from try_to_free_swap(k, page)
    frozen = yield freeze_purged_page(k, page)
    if not frozen:
        return -1
    yield unlock_page(k, page)
    return 0
