"""mm/mvolatile.c, the call: v13 2/4 and 3/4, v14 2/4 and 3/4. The purge is in `purge`."""

from __future__ import annotations

from functools import cache

from .mmap import EFAULT, EINVAL, ENOMEM, set_vma_flags, split_vma, vma_merge
from .pgtable import (
    is_purged_entry,
    pte_none,
    pte_present,
    pte_to_swp_entry,
)
from .ptes import pte_under_lock, ptep_clear_flush
from .state import (
    CLEARED,
    FALSE_REPORT,
    LOST,
    LOST_REPORT,
    VM_FILE,
    VM_LOCKED,
    VM_SPECIAL,
    VM_VOLATILE,
    WHOLE,
    Kernel,
    KernelBug,
    World,
)
from .steps import (
    Op,
    Steps,
    down_write,
    pte_unmap_unlock,
    put,
    puts,
    spin_lock,
    up_write,
)
from .vma import Vma, VmArea, find_vma, look_at_vma, look_at_vmas

MVOLATILE_NONVOLATILE = 0
MVOLATILE_VOLATILE = 1
_REFUSED = VM_SPECIAL | VM_LOCKED


# What the program knows


@cache
def call_begins(k: Kernel, mm: int, start: int, end: int, mode: int) -> Op:
    """Ghost: from here on the program allows a purge of what it marks. Answers what it allowed before."""
    ghosts = [k.ghost(mm, address) for address in range(start, min(end, k.config.addresses))]

    def perform(world: World) -> tuple[World, tuple[bool, ...]]:
        before = tuple(world[ghost][1] for ghost in ghosts)
        if mode != MVOLATILE_VOLATILE:
            return world, before
        return puts(world, *((g, (world[g][0], True, world[g][2])) for g in ghosts)), before

    name = "VOLATILE" if mode == MVOLATILE_VOLATILE else "NONVOLATILE"
    return Op(f"mvolatile(mm{mm} [{start}, {end}), MVOLATILE_{name})", perform, writes=ghosts)


@cache
def call_returns(
    k: Kernel, mm: int, start: int, end: int, mode: int, before: tuple[bool, ...], ret: int, purged: int
) -> Op:
    """The call returns to the program: `ret` pages done, and for an unmark whether any of them was purged.

    Whatever was lost there by now and was not reported never will be.
    """
    done = range(start, min(start + max(ret, 0), k.config.addresses))
    rest = range(done.stop, min(end, k.config.addresses))
    cells = [k.ghost(mm, address) for address in (*done, *rest)]
    wrongs = [k.wrong(mm, address) for address in done]

    def perform(world: World) -> tuple[World, None]:
        changes = []
        for address in rest:
            expect, _, loss = world[k.ghost(mm, address)]
            changes.append((k.ghost(mm, address), (expect, before[address - start], loss)))
        if mode == MVOLATILE_NONVOLATILE:
            losses = [world[k.ghost(mm, address)][2] for address in done]
            for address, loss in zip(done, losses, strict=True):
                ghost, wrong = k.ghost(mm, address), k.wrong(mm, address)
                sin = LOST_REPORT if loss != WHOLE and not purged else 0
                if purged and not any(losses):
                    sin |= FALSE_REPORT
                expect = 0 if loss == LOST else world[ghost][0]
                changes += [(ghost, (expect, False, WHOLE)), (wrong, world[wrong] | sin)]
        return puts(world, *changes), None

    return Op(f"mvolatile returns {ret}, purged {purged}", perform, writes=(*cells, *wrongs))


@cache
def marker_is_cleared(k: Kernel, mm: int, address: int) -> Op:
    """Ghost, the pte lock held: the page reads as zeros from now on, and the call has yet to say so."""
    ghost = k.ghost(mm, address)

    def perform(world: World) -> tuple[World, None]:
        _, volatile, loss = world[ghost]
        return put(world, ghost, (0, volatile, CLEARED if loss == LOST else loss)), None

    return Op(f"mm{mm} page {address} is zeros again", perform, writes=(ghost,))


# The call


def mvolatile(
    k: Kernel, mm: int, start: int, length: int, mode: int, flags: int = 0, fault: int = 0
) -> Steps[tuple[int, int]]:
    """`sys_mvolatile()` (v13 2/4) or, for `call` "v14", `madvise_volatile()`, in pages: (return value, *purged).

    `fault` makes the n-th store to `*purged` fail (EFAULT): 1 before anything is done, 2 when all is done.
    """
    end = start + length
    if flags or start < 0 or length < 0 or start >= k.config.addresses * 2:
        return -EINVAL, 0
    if k.variant.call != "v13":
        fault = 0  # v14 answers in the return value
    if fault == 1:
        return -EFAULT, 0
    before = yield call_begins(k, mm, start, end, mode)
    if k.variant.call == "v13":
        ret, purged = yield from do_mvolatile(k, mm, start, end, mode)
    else:
        ret, purged = yield from madvise_volatile(k, mm, start, end, mode)
    yield call_returns(k, mm, start, end, mode, before, ret, purged if fault != 2 else 0)
    if fault == 2:
        return -EFAULT, 0
    return ret, purged


def do_mvolatile(k: Kernel, mm: int, start: int, end: int, mode: int) -> Steps[tuple[int, int]]:
    """`do_mvolatile()` (v13 2/4, with 3/4's check at its end): one VMA after the other, counting what is done.

    A bad mode changes nothing and counts all the same. `vma` may be freed or cut short by `vma_merge`, and the
    flags are then written to it, not to the VMA that took the range over (`merge_result` "stale").
    """
    yield down_write(k, mm)
    orig_start = start
    count = ret = purged = 0
    vma, prev = yield from find_vma_prev(k, mm, start)
    while True:
        if vma is None or vma.flags & _REFUSED:
            break
        if vma.flags & VM_FILE:
            ret = -EINVAL
            break
        if start < vma.start:
            ret = -ENOMEM
            break
        new_flags = _new_flags(vma.flags, mode)
        tmp = min(vma.end, end)
        merged = yield from vma_merge(k, mm, prev, vma.vma, start, tmp, new_flags)
        if merged < 0:
            ret = yield from _split_around(k, vma, start, tmp)
            if ret:
                break
        prev = merged if merged >= 0 else vma.vma
        stale = k.variant.merge_result == "stale"
        yield from set_vma_flags(k, vma.vma if stale else prev, new_flags)
        count = tmp - orig_start
        covered = yield look_at_vma(k, prev)
        start = max(tmp, covered.end)
        if start >= end:
            break
        vma = yield from _next_vma(k, mm, prev)
    if count and mode == MVOLATILE_NONVOLATILE:
        if vma is None:
            raise KernelBug("NULL dereference: mvolatile_check_purged(vma == NULL) reads vma->vm_mm")
        purged = yield from mvolatile_check_purged(k, mm, orig_start, orig_start + count)
    yield up_write(k, mm)
    return count or ret, purged


def find_vma_prev(k: Kernel, mm: int, start: int) -> Steps[tuple[VmArea | None, int]]:
    """`find_vma_prev()`: the VMA at or after `start`, and the one before; that VMA twice if `start` is inside it."""
    vma = yield find_vma(k, mm, start)
    if vma is not None and start > vma.start:
        return vma, vma.vma
    vmas = yield look_at_vmas(k, mm)
    before = [found.vma for found in vmas if found.end <= start]
    return vma, before[-1] if before else -1


def _next_vma(k: Kernel, mm: int, vma: int) -> Steps[VmArea | None]:
    vmas = yield look_at_vmas(k, mm)
    order = [found.vma for found in vmas]
    at = order.index(vma) + 1
    return vmas[at].area if at < len(vmas) else None


def _new_flags(flags: int, mode: int) -> int:
    if mode == MVOLATILE_VOLATILE:
        return flags | VM_VOLATILE
    return flags & ~VM_VOLATILE if mode == MVOLATILE_NONVOLATILE else flags


def _split_around(k: Kernel, vma: VmArea, start: int, end: int) -> Steps[int]:
    ret = 0
    if start != vma.start:
        ret = yield from split_vma(k, vma.vma, start, True)
    if not ret and end != vma.end:
        ret = yield from split_vma(k, vma.vma, end, False)
    return ret


def madvise_volatile(k: Kernel, mm: int, start: int, end: int, mode: int) -> Steps[tuple[int, int]]:
    """`madvise_volatile()` (v14 2/4, 3/4): checks everything, splits both ends, then changes everything.

    Answers pages as v13's call does: all of them, or an error. v14 checks up to the last VMA only and then
    dereferences NULL if the range goes on; `call` "checked" answers ENOMEM there. It also has nothing to do for an
    empty range, where the passes of v14 would change the flags of the whole VMA around it.
    """
    if mode not in (MVOLATILE_VOLATILE, MVOLATILE_NONVOLATILE):
        return -EINVAL, 0
    if start == end and k.variant.call == "checked":
        return 0, 0
    yield down_write(k, mm)
    purged = 0
    vmas = yield look_at_vmas(k, mm)
    ret = _check_range(vmas, start, end, to_the_end=k.variant.call == "checked")
    if not ret:
        ret = yield from _split_both_ends(k, mm, start, end)
        yield from _change_flags(k, mm, start, end, mode, ret)
        if not ret and mode == MVOLATILE_NONVOLATILE:
            purged = yield from mvolatile_check_purged(k, mm, start, end)
    yield up_write(k, mm)
    return ret or end - start, purged


def _check_range(vmas: tuple[Vma, ...], start: int, end: int, to_the_end: bool) -> int:
    """v14's first pass."""
    inside = [vma for vma in vmas if vma.end > start]
    if not inside:
        return -ENOMEM
    for vma in inside:
        if vma.flags & (_REFUSED | VM_FILE):
            return -EINVAL
        if start < vma.start:
            return -ENOMEM
        start = vma.end
        if start >= end:
            return 0
    return -ENOMEM if to_the_end else 0


def _split_both_ends(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    """v14's second pass."""
    ret = 0
    vma = yield find_vma(k, mm, start)
    if start != vma.start:
        ret = yield from split_vma(k, vma.vma, start, True)
    vma = yield find_vma(k, mm, end - 1)
    if vma is None:
        raise KernelBug(
            "NULL dereference: find_vma(mm, end - 1) is NULL and madvise_volatile reads vma->vm_end"
        )
    if not ret and end != vma.end:
        ret = yield from split_vma(k, vma.vma, end, False)
    return ret


def _change_flags(k: Kernel, mm: int, start: int, end: int, mode: int, failed: int) -> Steps[None]:
    """v14's third pass. After a failed split it only merges again what was split."""
    vma, prev = yield from find_vma_prev(k, mm, start)
    while vma is not None:
        new_flags = vma.flags if failed else _new_flags(vma.flags, mode)
        prev = yield from vma_merge(k, mm, prev, vma.vma, start, vma.end, new_flags)
        if prev < 0:
            prev = vma.vma
        yield from set_vma_flags(k, prev, new_flags)
        vma = yield look_at_vma(k, prev)
        start = vma.end
        if start >= end:
            break
        vma = yield from _next_vma(k, mm, prev)


def mvolatile_check_purged(k: Kernel, mm: int, start: int, end: int) -> Steps[int]:
    """`mvolatile_check_purged()`, `mvolatile_check_purged_pte()` (v13 3/4): 1 if a purged marker was found.

    Markers become empty ptes; v12 left them (`clear_markers`). No mmu notifier is called: a marker has no
    secondary mapping.
    """
    purged = 0
    yield spin_lock(k, mm)
    for address in range(start, min(end, k.config.addresses)):
        pte = yield pte_under_lock(k, mm, address)
        if not pte_none(pte) and not pte_present(pte) and is_purged_entry(pte_to_swp_entry(pte)):
            purged = 1
            if k.variant.clear_markers:
                yield marker_is_cleared(k, mm, address)
                yield from ptep_clear_flush(k, mm, address)
    yield pte_unmap_unlock(k, mm)
    return purged
