"""mm/memory.c: the fault path, with the patch's SIGBUS trap, and `copy_one_pte`, `zap_pte_range`.

The trap is the part of v13 4/4 that Minchan's review is about: `handle_pte_fault` reads the pte without its lock.
"""

from __future__ import annotations

from .mmu_notifier import (
    mmu_notifier_invalidate_range_end,
    mmu_notifier_invalidate_range_start,
)
from .page import (
    add_mm_counters,
    alloc_page,
    clear_page_mlock,
    copy_user_page,
    get_page,
    lru_cache_add,
    page_cache_release,
    page_dup_rmap,
    page_mapped,
    page_remove_rmap,
    read_flags,
    set_page_anon_rmap,
    update_hiwater_rss,
)
from .pgtable import (
    is_purged_entry,
    mk_pte,
    non_swap_entry,
    pte_mkdirty,
    pte_mkold,
    pte_mkwrite,
    pte_mkyoung,
    pte_none,
    pte_pfn,
    pte_present,
    pte_to_swp_entry,
    pte_write,
    pte_wrprotect,
)
from .ptes import (
    ghost_copy,
    pte_under_lock,
    ptep_clear_flush,
    ptep_set_wrprotect,
    read_pte_unlocked,
    set_pte_at,
)
from .state import VM_LOCKED, VM_WRITE, ZERO_PAGE, Kernel, PG_mlocked, PG_swapcache
from .steps import (
    Steps,
    lock_page,
    pte_unmap_unlock,
    read,
    spin_lock,
    trylock_page,
    unlock_page,
    up_read,
    wait_on_page_locked,
)
from .swap import (
    NO_FRAME,
    free_swap_and_cache,
    lookup_swap_cache,
    read_swap_cache_async,
    reuse_swap_page,
    swap_duplicate,
    swap_entry_free,
    try_to_free_swap,
)
from .vma import VmArea, anon_vma_prepare

VM_FAULT_OOM = 0x0001
VM_FAULT_SIGBUS = 0x0002
VM_FAULT_RETRY = 0x0400
VM_FAULT_LOST = 0x10000
"""Not the kernel's: the page was lost when the pte was looked at, so a SIGBUS is right."""
VM_FAULT_NO_FRAME = 0x20000
"""Not the kernel's: something was to be allocated and none was left, so VM_FAULT_OOM is right."""

FAULT_FLAG_WRITE = 0x01
FAULT_FLAG_ALLOW_RETRY = 0x08


def handle_pte_fault(k: Kernel, vma: VmArea, address: int, flags: int) -> Steps[int]:
    """`handle_pte_fault()`. In v13 4/4 the purged marker is recognized here, in a pte read without its lock."""
    mm = vma.mm
    entry, lost = yield from read_pte_unlocked(k, mm, address)
    if not pte_present(entry):
        if pte_none(entry):
            ret = yield from do_anonymous_page(k, vma, address, flags)
            return ret
        if k.variant.purged_check == "unlocked" and is_purged_entry(pte_to_swp_entry(entry)):
            return VM_FAULT_SIGBUS | (VM_FAULT_LOST if lost else 0)
        ret = yield from do_swap_page(k, vma, address, flags, entry)
        return ret | (VM_FAULT_LOST if lost else 0)
    del lost
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    if pte == entry:
        if flags & FAULT_FLAG_WRITE and not pte_write(entry):
            ret = yield from do_wp_page(k, vma, address, entry)
            return ret
        entry = pte_mkyoung(pte_mkdirty(entry) if flags & FAULT_FLAG_WRITE else entry)
        yield from set_pte_at(k, mm, address, entry)
    yield pte_unmap_unlock(k, mm)
    return 0


def do_anonymous_page(k: Kernel, vma: VmArea, address: int, flags: int) -> Steps[int]:
    """`do_anonymous_page()`: the zero page for a read, a fresh page of zeros for a write."""
    mm = vma.mm
    if not flags & FAULT_FLAG_WRITE:
        yield spin_lock(k, mm)
        pte = yield pte_under_lock(k, mm, address)
        if pte_none(pte):
            yield from set_pte_at(k, mm, address, mk_pte(ZERO_PAGE))
        yield pte_unmap_unlock(k, mm)
        return 0
    prepared = yield anon_vma_prepare(k, vma.vma)
    if not prepared:
        return VM_FAULT_OOM | VM_FAULT_NO_FRAME
    page = yield alloc_page(k, 0)
    if not page:
        return VM_FAULT_OOM | VM_FAULT_NO_FRAME
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    if not pte_none(pte):
        yield page_cache_release(k, page)
        yield pte_unmap_unlock(k, mm)
        return 0
    yield add_mm_counters(k, mm, 1, 0)
    yield from page_add_new_anon_rmap(k, page, vma, address)
    yield from set_pte_at(k, mm, address, mk_pte(k.pfn(page), write=True, dirty=True))
    yield pte_unmap_unlock(k, mm)
    return 0


def page_add_new_anon_rmap(k: Kernel, page: int, vma: VmArea, address: int) -> Steps[None]:
    """`page_add_new_anon_rmap()`: first mapping of a new page, which goes to the active list."""
    anon_vma = yield read(f"vma{vma.vma}->anon_vma", k.anon_vma(vma.vma))
    yield page_dup_rmap(k, page)
    yield set_page_anon_rmap(k, page, anon_vma, vma.pgoff + address - vma.start)
    yield lru_cache_add(k, page)


def pte_unmap_same(k: Kernel, mm: int, address: int, orig_pte: int) -> Steps[bool]:
    """`pte_unmap_same()`: the torn machine's guard: whether the pte that was read in halves was ever one pte."""
    if not k.config.torn_reads:
        return True
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    yield pte_unmap_unlock(k, mm)
    return bool(pte == orig_pte)


def do_swap_page(k: Kernel, vma: VmArea, address: int, flags: int, orig_pte: int) -> Steps[int]:
    """`do_swap_page()`. In v14 4/4 the purged marker is recognized here, under the pte lock, with `pte_same`.

    In v13 a marker never gets here; if it did, `print_bad_pte` and SIGBUS would be its end.
    """
    mm = vma.mm
    same = yield from pte_unmap_same(k, mm, address, orig_pte)
    if not same:
        return 0
    entry = pte_to_swp_entry(orig_pte)
    if non_swap_entry(entry):
        ret = yield from _not_a_slot(k, mm, address, orig_pte)
        return ret
    page = yield lookup_swap_cache(k, entry)
    if not page:
        page = yield from read_swap_cache_async(k, entry)
    if page in (0, NO_FRAME):
        yield spin_lock(k, mm)
        pte = yield pte_under_lock(k, mm, address)
        yield pte_unmap_unlock(k, mm)
        if pte != orig_pte:
            return 0
        return VM_FAULT_OOM | (VM_FAULT_NO_FRAME if page == NO_FRAME else 0)
    locked = yield from lock_page_or_retry(k, page, mm, flags)
    if not locked:
        yield page_cache_release(k, page)
        return VM_FAULT_RETRY
    page_flags = yield read_flags(k, page, "PageSwapCache")
    private = yield read(f"page_private(page {page})", k.private(page))
    if not page_flags & PG_swapcache or private != entry:
        yield unlock_page(k, page)
        yield page_cache_release(k, page)
        return 0
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    if pte != orig_pte:
        yield pte_unmap_unlock(k, mm)
        yield unlock_page(k, page)
        yield page_cache_release(k, page)
        return 0
    yield add_mm_counters(k, mm, 1, -1)
    pte = mk_pte(k.pfn(page))
    exclusive = False
    if flags & FAULT_FLAG_WRITE:
        exclusive = yield from reuse_swap_page(k, page)
        if exclusive:
            pte = pte_mkwrite(pte_mkdirty(pte))
            flags = flags & ~FAULT_FLAG_WRITE
    yield from set_pte_at(k, mm, address, pte)
    yield from do_page_add_anon_rmap(k, page, vma, address, exclusive)
    yield swap_entry_free(k, entry)
    page_flags = yield read_flags(k, page, "PageMlocked")
    if vma.flags & VM_LOCKED or page_flags & PG_mlocked:
        yield from try_to_free_swap(k, page)
    yield unlock_page(k, page)
    if flags & FAULT_FLAG_WRITE:
        ret = yield from do_wp_page(k, vma, address, pte)
        return ret
    yield pte_unmap_unlock(k, mm)
    return 0


def _not_a_slot(k: Kernel, mm: int, address: int, orig_pte: int) -> Steps[int]:
    """The ``non_swap_entry`` branch of `do_swap_page`, where v14 4/4 has its hook."""
    if k.variant.purged_check != "pte_lock" or not is_purged_entry(pte_to_swp_entry(orig_pte)):
        return VM_FAULT_SIGBUS
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    yield pte_unmap_unlock(k, mm)
    return VM_FAULT_SIGBUS if pte == orig_pte else 0


def lock_page_or_retry(k: Kernel, page: int, mm: int, flags: int) -> Steps[bool]:
    """`lock_page_or_retry()`: if it must wait and may retry, it lets `mmap_sem` go first and answers False."""
    if not flags & FAULT_FLAG_ALLOW_RETRY:
        yield lock_page(k, page)
        return True
    locked = yield trylock_page(k, page)
    if not locked:
        yield up_read(k, mm)
        yield wait_on_page_locked(k, page)
    return bool(locked)


def do_page_add_anon_rmap(k: Kernel, page: int, vma: VmArea, address: int, exclusive: bool) -> Steps[None]:
    """`do_page_add_anon_rmap()`: a page fresh from swap is filed under the VMA's root anon_vma, where every process
    that may still hold the slot finds it; under the VMA's own if this mapping is `exclusive`.
    """
    anon_vma = yield read(f"vma{vma.vma}->anon_vma", k.anon_vma(vma.vma))
    if anon_vma < 0:
        yield anon_vma_prepare(k, vma.vma)
        anon_vma = yield read(f"vma{vma.vma}->anon_vma", k.anon_vma(vma.vma))
    mapped = yield read(f"atomic_inc_and_test(page {page}->_mapcount)", k.mapcount(page))
    yield page_dup_rmap(k, page)
    filed = yield read(f"PageAnon(page {page})", k.mapping(page))
    if not mapped and filed < 0:
        if not exclusive:
            anon_vma = yield read(f"anon_vma{anon_vma}->root", k.root(anon_vma))
        yield set_page_anon_rmap(k, page, anon_vma, vma.pgoff + address - vma.start)


def do_wp_page(k: Kernel, vma: VmArea, address: int, orig_pte: int) -> Steps[int]:
    """`do_wp_page()`: entered with the pte lock held, which it drops. Writes to the page itself, or to a copy."""
    mm = vma.mm
    old = k.page(pte_pfn(orig_pte))
    if old != ZERO_PAGE:
        locked = yield trylock_page(k, old)
        if not locked:
            yield get_page(k, old)
            yield pte_unmap_unlock(k, mm)
            yield lock_page(k, old)
            yield spin_lock(k, mm)
            pte = yield pte_under_lock(k, mm, address)
            if pte != orig_pte:
                yield unlock_page(k, old)
                yield pte_unmap_unlock(k, mm)
                yield page_cache_release(k, old)
                return 0
            yield page_cache_release(k, old)
        exclusive = yield from reuse_swap_page(k, old)
        if exclusive:
            anon_vma = yield read(f"vma{vma.vma}->anon_vma", k.anon_vma(vma.vma))
            yield set_page_anon_rmap(k, old, anon_vma, vma.pgoff + address - vma.start)
            yield unlock_page(k, old)
            yield from set_pte_at(k, mm, address, pte_mkwrite(pte_mkdirty(pte_mkyoung(orig_pte))))
            yield pte_unmap_unlock(k, mm)
            return 0
        yield unlock_page(k, old)
        yield get_page(k, old)
    yield pte_unmap_unlock(k, mm)
    ret = yield from _copy_on_write(k, vma, address, orig_pte, old)
    return ret


def _copy_on_write(k: Kernel, vma: VmArea, address: int, orig_pte: int, old: int) -> Steps[int]:
    """The `gotten` part of `do_wp_page`: a copy takes the old page's place, unless the pte has changed."""
    mm = vma.mm
    prepared = yield anon_vma_prepare(k, vma.vma)
    new = 0
    if prepared:
        new = yield alloc_page(k, 0 if old == ZERO_PAGE else None)
    if not new:
        if old != ZERO_PAGE:
            yield page_cache_release(k, old)
        return VM_FAULT_OOM | VM_FAULT_NO_FRAME
    if old != ZERO_PAGE:
        yield copy_user_page(k, new, old)
    yield mmu_notifier_invalidate_range_start(k, mm, address, address + 1)
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    spare = new
    if pte == orig_pte:
        if old == ZERO_PAGE:
            yield add_mm_counters(k, mm, 1, 0)
        yield from ptep_clear_flush(k, mm, address)
        yield from page_add_new_anon_rmap(k, new, vma, address)
        yield from set_pte_at(k, mm, address, mk_pte(k.pfn(new), write=True, dirty=True))
        if old != ZERO_PAGE:
            yield page_remove_rmap(k, old)
        spare = old
    if spare != ZERO_PAGE:
        yield page_cache_release(k, spare)
    yield pte_unmap_unlock(k, mm)
    yield mmu_notifier_invalidate_range_end(k, mm, address, address + 1)
    if old != ZERO_PAGE:
        yield page_cache_release(k, old)
    return 0


def copy_one_pte(k: Kernel, dst: int, src: int, address: int, vm_flags: int) -> Steps[None]:
    """`copy_one_pte()`, both pte locks held. A purged marker is copied like any entry that is no slot."""
    pte = yield pte_under_lock(k, src, address)
    if pte_none(pte):
        yield ghost_copy(k, dst, src, address)
        return
    if not pte_present(pte):
        entry = pte_to_swp_entry(pte)
        yield swap_duplicate(k, entry)
        if not non_swap_entry(entry):
            yield add_mm_counters(k, dst, 0, 1)
        yield ghost_copy(k, dst, src, address)
        yield from set_pte_at(k, dst, address, pte)
        return
    if vm_flags & VM_WRITE:
        yield ptep_set_wrprotect(k, src, address)
        pte = yield pte_under_lock(k, src, address)
    pte = pte_mkold(pte_wrprotect(pte))
    page = k.page(pte_pfn(pte))
    if page != ZERO_PAGE:
        yield get_page(k, page)
        yield page_dup_rmap(k, page)
        yield add_mm_counters(k, dst, 1, 0)
    yield ghost_copy(k, dst, src, address)
    yield from set_pte_at(k, dst, address, pte)


def zap_pte_range(k: Kernel, mm: int, start: int, end: int) -> Steps[None]:
    """`zap_pte_range()`: takes the pages of a range away. A purged marker vanishes without a trace."""
    yield mmu_notifier_invalidate_range_start(k, mm, start, end)
    yield spin_lock(k, mm)
    pages: tuple[int, ...] = ()
    for address in range(start, end):
        pte = yield pte_under_lock(k, mm, address)
        yield from ptep_clear_flush(k, mm, address, True)
        if pte_none(pte):
            continue
        if not pte_present(pte):
            entry = pte_to_swp_entry(pte)
            if not non_swap_entry(entry):
                yield add_mm_counters(k, mm, 0, -1)
            yield from free_swap_and_cache(k, entry)
            continue
        page = k.page(pte_pfn(pte))
        if page != ZERO_PAGE:
            yield update_hiwater_rss(k, mm)
            yield add_mm_counters(k, mm, -1, 0)
            yield page_remove_rmap(k, page)
            pages = (*pages, page)
    yield pte_unmap_unlock(k, mm)
    for at in range(len(pages)):
        yield from free_page_and_swap_cache(k, pages[at])
    yield mmu_notifier_invalidate_range_end(k, mm, start, end)


def free_page_and_swap_cache(k: Kernel, page: int) -> Steps[None]:
    """`free_page_and_swap_cache()`: when the TLB is flushed, the pages gathered go."""
    flags = yield read_flags(k, page, "PageSwapCache")
    if flags & PG_swapcache:
        locked = yield trylock_page(k, page)
        if locked:
            mapped = yield page_mapped(k, page)
            if not mapped:
                yield from try_to_free_swap(k, page)
            yield unlock_page(k, page)
    flags = yield read_flags(k, page, "PageMlocked")
    mapped = yield page_mapped(k, page)
    if flags & PG_mlocked and not mapped:
        yield clear_page_mlock(k, page)
    yield page_cache_release(k, page)
