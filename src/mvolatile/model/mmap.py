"""mm/mmap.c and mm/mlock.c: mapping, merging, splitting and unmapping of VMAs; mlock; exit."""

from __future__ import annotations

from typing import NamedTuple

from .memory import VM_FAULT_OOM, VM_FAULT_RETRY, VM_FAULT_SIGBUS, zap_pte_range
from .page import clear_page_mlock, mlock_vma_page
from .pgtable import (
    non_swap_entry,
    pte_none,
    pte_pfn,
    pte_present,
    pte_to_swp_entry,
    pte_write,
    swp_offset,
)
from .ptes import pte_under_lock
from .state import (
    VM_LOCKED,
    VM_VOLATILE,
    VM_WRITE,
    ZERO_PAGE,
    Kernel,
    KernelBug,
)
from .steps import (
    Steps,
    anon_vma_lock_write,
    anon_vma_unlock_write,
    down_read,
    down_write,
    pte_unmap_unlock,
    read,
    spin_lock,
    trylock_page,
    unlock_page,
    up_read,
    up_write,
)
from .vma import (
    Vma,
    adjust_extents,
    anon_vma_chain_link,
    find_vma,
    free_vma,
    link_vma,
    look_at_vma,
    look_at_vmas,
    new_vma,
    read_root,
    set_vma_anon_vma,
    unlink_anon_vmas,
    unlink_vma,
    write_vm_flags,
)

EINVAL, ENOMEM, EFAULT = 22, 12, 14


def do_mmap(k: Kernel, mm: int, start: int, end: int, flags: int = VM_WRITE) -> Steps[int]:
    """`mmap()` of private anonymous memory at pages [start, end): the new VMA. It never merges with a neighbour."""
    yield down_write(k, mm)
    vma = yield new_vma(k, mm, start, end, start, flags)
    yield link_vma(k, mm, vma)
    yield up_write(k, mm)
    return int(vma)


class Merge(NamedTuple):
    """What `vma_merge` decides: extents to set, which VMA to return, which one is then to be freed."""

    result: int
    extents: tuple[tuple[int, tuple[int, int, int, int]], ...]
    removed: tuple[int, ...] = ()


def _mergeable(one: int, other: int, single: tuple[int, ...] | None) -> bool:
    """`is_mergeable_anon_vma()`."""
    if (one < 0 or other < 0) and (single is None or len(single) <= 1):
        return True
    return one == other


def _extent(vma: Vma, start: int, end: int) -> tuple[int, tuple[int, int, int, int]]:
    return vma.vma, (vma.mm, start, end, vma.pgoff + start - vma.start)


def plan_merge(
    vmas: tuple[Vma, ...], prev: Vma | None, area: Vma, start: int, end: int, flags: int
) -> Merge | None:
    """The decision of `vma_merge()`: pages [start, end) of `area` are to have `flags`; can they join a neighbour?

    The numbers are the cases of the drawing in mm/mmap.c.
    """
    pgoff = area.pgoff + start - area.start
    order = [vma.vma for vma in vmas]
    at = order.index(prev.vma) + 1 if prev else 0
    following = vmas[at] if at < len(vmas) else None
    following_index = at
    if following and following.end == end:  # cases 6, 7, 8
        following_index += 1
    beyond = vmas[following_index] if following_index < len(vmas) else None
    after = (
        prev is not None
        and prev.end == start
        and prev.flags == flags
        and _mergeable(area.anon_vma, prev.anon_vma, prev.chain)
        and prev.pgoff + prev.end - prev.start == pgoff
    )
    before = (
        beyond is not None
        and beyond.start == end
        and beyond.flags == flags
        and _mergeable(area.anon_vma, beyond.anon_vma, beyond.chain)
        and beyond.pgoff == pgoff + end - start
    )
    if after and prev is not None:
        if before and beyond is not None and _mergeable(prev.anon_vma, beyond.anon_vma, None):  # cases 1, 6
            removed = (
                (beyond.vma,) if beyond is following else (following.vma, beyond.vma) if following else ()
            )
            return Merge(prev.vma, (_extent(prev, prev.start, beyond.end),), removed)
        if following and following.end == end:  # case 7
            return Merge(prev.vma, (_extent(prev, prev.start, end),), (following.vma,))
        if following and following.start < end:  # case 5
            return Merge(prev.vma, (_extent(prev, prev.start, end), _extent(following, end, following.end)))
        return Merge(prev.vma, (_extent(prev, prev.start, end),))  # case 2
    if before and beyond is not None:
        if prev is not None and start < prev.end:  # case 4
            return Merge(beyond.vma, (_extent(prev, prev.start, start), _extent(beyond, start, beyond.end)))
        assert following is not None
        if following is beyond:  # case 3
            return Merge(beyond.vma, (_extent(beyond, start, beyond.end),))
        return Merge(following.vma, (_extent(following, start, beyond.end),), (beyond.vma,))  # case 8
    return None


def vma_merge(k: Kernel, mm: int, prev: int, vma: int, start: int, end: int, flags: int) -> Steps[int]:
    """`vma_merge()`: the VMA that then covers [start, end), or -1 if no neighbour can take it.

    `prev` is the VMA before, or `vma` itself when `start` lies inside it; -1 if there is none. The VMA that is
    returned need not be `vma`, and `vma` may be freed: v13's caller overlooked that.
    """
    vmas = yield look_at_vmas(k, mm)
    by_number = {found.vma: found for found in vmas}
    plan = plan_merge(vmas, by_number.get(prev), by_number[vma], start, end, flags)
    del by_number
    if plan is None:
        return -1
    yield from vma_adjust(k, plan.extents, plan.removed)
    return plan.result


def vma_adjust(
    k: Kernel,
    extents: tuple[tuple[int, tuple[int, int, int, int]], ...],
    removed: tuple[int, ...] = (),
    insert: int = -1,
) -> Steps[None]:
    """`vma_adjust()`: new extents under the anon_vma's lock; swallowed VMAs are unlinked and freed, one may be added.

    A VMA that grows over another's pages and has no anon_vma gets the other's (`anon_vma_clone`).
    """
    importer = yield look_at_vma(k, extents[0][0])
    for at in range(len(removed) + len(extents) - 1):
        exporter = yield look_at_vma(k, (removed + tuple(vma for vma, _ in extents[1:]))[at])
        if insert < 0 and exporter.anon_vma >= 0 and importer.anon_vma < 0:
            yield from anon_vma_clone(k, importer.vma, exporter.chain)
            yield set_vma_anon_vma(k, importer.vma, exporter.anon_vma)
            importer = yield look_at_vma(k, importer.vma)
        elif insert < 0 and exporter.anon_vma < 0 and importer.anon_vma >= 0 and at >= len(removed):
            yield from anon_vma_clone(k, exporter.vma, importer.chain)
            yield set_vma_anon_vma(k, exporter.vma, importer.anon_vma)
    chain = importer.chain
    root = -1
    if chain:
        root = yield read_root(k, chain[0])
        yield anon_vma_lock_write(k, root)
    yield adjust_extents(k, extents, chain)
    for at in range(len(removed)):
        yield unlink_vma(k, importer.mm, removed[at])
    if insert >= 0:
        yield link_vma(k, importer.mm, insert)
    if chain:
        yield anon_vma_unlock_write(k, root)
    for at in range(len(removed)):
        yield from free_unlinked_vma(k, removed[at])


def free_unlinked_vma(k: Kernel, vma: int) -> Steps[None]:
    """`unlink_anon_vmas()` under the root's lock, then `kmem_cache_free()`."""
    found = yield look_at_vma(k, vma)
    if found.chain:
        root = yield read_root(k, found.chain[0])
        yield anon_vma_lock_write(k, root)
        yield unlink_anon_vmas(k, vma, found.chain)
        yield anon_vma_unlock_write(k, root)
    yield free_vma(k, vma)


def anon_vma_clone(k: Kernel, dst: int, chain: tuple[int, ...]) -> Steps[None]:
    """`anon_vma_clone()`: `dst` joins every anon_vma of `chain`, the oldest first, under their root's lock."""
    if not chain:
        return
    root = yield read_root(k, chain[0])
    yield anon_vma_lock_write(k, root)
    for at in range(len(chain)):
        yield anon_vma_chain_link(k, dst, chain[len(chain) - 1 - at])
    yield anon_vma_unlock_write(k, root)


def split_vma(k: Kernel, vma: int, address: int, new_below: bool) -> Steps[int]:
    """`split_vma()`: 0, or -ENOMEM. `vma` keeps the upper part if `new_below`, else the lower."""
    old = yield look_at_vma(k, vma)
    lower, upper = _extent(old, old.start, address), _extent(old, address, old.end)
    ours, theirs = (upper, lower) if new_below else (lower, upper)
    new = yield new_vma(k, old.mm, theirs[1][1], theirs[1][2], theirs[1][3], old.flags)
    if new < 0:
        return -ENOMEM
    yield from anon_vma_clone(k, new, old.chain)
    yield set_vma_anon_vma(k, new, old.anon_vma)
    yield from vma_adjust(k, (ours,), (), new)
    return 0


def set_vma_flags(k: Kernel, vma: int, flags: int) -> Steps[None]:
    """``vma->vm_flags = flags``. With `vma_flag_lock` "anon_vma" it waits for a walk of reclaim over the pages."""
    root = -1
    if k.variant.vma_flag_lock == "anon_vma":
        found = yield look_at_vma(k, vma)
        if found.chain and (found.flags ^ flags) & (VM_VOLATILE | VM_LOCKED):
            root = yield read_root(k, found.chain[0])
            yield anon_vma_lock_write(k, root)
    yield write_vm_flags(k, vma, flags)
    if root >= 0:
        yield anon_vma_unlock_write(k, root)


def do_munmap(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    """`munmap()` of pages [start, end): 0, or -ENOMEM. Volatility goes with the VMA."""
    yield down_write(k, mm)
    ret = yield from _munmap_locked(k, mm, start, end)
    yield up_write(k, mm)
    return ret


def _munmap_locked(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    for edge, below in ((start, True), (end, False)):
        vma = yield find_vma(k, mm, edge if below else edge - 1)
        if vma is not None and vma.start < edge < vma.end:
            ret = yield from split_vma(k, vma.vma, edge, below)
            if ret:
                return ret
    vmas = yield look_at_vmas(k, mm)
    for at in range(len(vmas)):
        if start <= vmas[at].start and vmas[at].end <= end:
            yield unlink_vma(k, mm, vmas[at].vma)
            if vmas[at].flags & VM_LOCKED:
                yield from munlock_vma_pages_range(k, mm, vmas[at].start, vmas[at].end)
            yield from zap_pte_range(k, mm, vmas[at].start, vmas[at].end)
            yield from free_unlinked_vma(k, vmas[at].vma)
    return 0


def exit_mmap(k: Kernel, mm: int) -> Steps[int]:
    """`exit_mmap()`: everything goes."""
    ret = yield from do_munmap(k, mm, 0, k.config.addresses)
    return ret


def madvise_dontneed(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    """`madvise(MADV_DONTNEED)`: with `mmap_sem` for reading only, so faults run beside it."""
    yield down_read(k, mm)
    yield from zap_pte_range(k, mm, start, end)
    yield up_read(k, mm)
    return 0


def mincore(k: Kernel, mm: int, address: int) -> Steps[int]:
    """`mincore_pte_range()` (mm/mincore.c) for one page: 1 if it is in memory.

    The patch does not touch it, but a purged marker meets it: what is no migration entry is taken for a swap slot,
    and `swap_address_space()` indexes an array of MAX_SWAPFILES by its type, which for the marker is one too far.
    """
    yield down_read(k, mm)
    yield spin_lock(k, mm)
    pte = yield pte_under_lock(k, mm, address)
    yield pte_unmap_unlock(k, mm)
    yield up_read(k, mm)
    if pte_none(pte) or pte_present(pte):
        return int(pte_present(pte))
    entry = pte_to_swp_entry(pte)
    if non_swap_entry(entry):
        if not k.variant.mincore_knows_marker:
            raise KernelBug("out of bounds: swapper_spaces[SWP_MVOLATILE_PURGED] in mincore_pte_range")
        return 0
    page = yield read(f"mincore_page(slot {swp_offset(entry)})", k.swap_page(swp_offset(entry)))
    return int(page != 0)


def mlock(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    """`mlock()`: VM_LOCKED on the VMAs, then every page is faulted in; 0, or -ENOMEM if one cannot be.

    `mlock_fixup` does not refuse a volatile VMA, although a locked one cannot be made volatile.
    """
    yield down_write(k, mm)
    vmas = yield look_at_vmas(k, mm)
    for at in range(len(vmas)):
        vma = vmas[at]
        if vma.end <= start or vma.start >= end or vma.flags & VM_LOCKED:
            continue
        if vma.start < start:
            yield from split_vma(k, vma.vma, start, True)
        if end < vma.end:
            yield from split_vma(k, vma.vma, end, False)
        yield from set_vma_flags(k, vma.vma, vma.flags | VM_LOCKED)
    yield up_write(k, mm)
    for address in range(start, end):
        ret = yield from _populate(k, mm, address)
        if ret:
            return -ENOMEM
    return 0


def _populate(k: Kernel, mm: int, address: int) -> Steps[int]:
    """`__mm_populate()`: `follow_page_mask` with FOLL_MLOCK and FOLL_WRITE, faulting until the page is there."""
    from .user import handle_mm_fault  # the fault path's front end is above this module

    while True:
        yield down_read(k, mm)
        yield spin_lock(k, mm)
        pte = yield pte_under_lock(k, mm, address)
        page = k.page(pte_pfn(pte)) if pte_present(pte) and pte_write(pte) else ZERO_PAGE
        if page != ZERO_PAGE:
            locked = yield trylock_page(k, page)
            if locked:
                yield mlock_vma_page(k, page)
                yield unlock_page(k, page)
        yield pte_unmap_unlock(k, mm)
        ret = 0
        if page == ZERO_PAGE:
            ret = yield from handle_mm_fault(k, mm, address, write=True, allow_retry=True)
        if not ret & VM_FAULT_RETRY:
            yield up_read(k, mm)
        if ret & (VM_FAULT_SIGBUS | VM_FAULT_OOM):
            return -EFAULT if ret & VM_FAULT_SIGBUS else -ENOMEM
        if page != ZERO_PAGE:
            return 0
        del page, pte, ret


def munlock_vma_pages_range(k: Kernel, mm: int, start: int, end: int) -> Steps[None]:
    """`munlock_vma_pages_range()`: the pages are evictable again."""
    for address in range(start, end):
        yield spin_lock(k, mm)
        pte = yield pte_under_lock(k, mm, address)
        yield pte_unmap_unlock(k, mm)
        if pte_present(pte) and k.page(pte_pfn(pte)) != ZERO_PAGE:
            yield clear_page_mlock(k, k.page(pte_pfn(pte)), "munlock_vma_page")
