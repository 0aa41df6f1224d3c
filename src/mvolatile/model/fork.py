"""kernel/fork.c: fork with copy-on-write and the anon_vma of the child."""

from __future__ import annotations

from .memory import copy_one_pte
from .mmap import anon_vma_clone
from .mmu_notifier import mmu_notifier_invalidate_range_end, mmu_notifier_invalidate_range_start
from .state import VM_LOCKED, Kernel
from .steps import (
    Steps,
    anon_vma_lock_write,
    anon_vma_unlock_write,
    down_write,
    pte_unmap_unlock,
    spin_lock,
    up_write,
)
from .vma import (
    anon_vma_alloc,
    anon_vma_chain_link,
    link_vma,
    look_at_vmas,
    new_vma,
    read_root,
    set_vma_anon_vma,
)


def fork(k: Kernel, parent: int, child: int) -> Steps[int]:
    """`dup_mmap()` from process `parent` into the empty process `child`: 0.

    VM_VOLATILE is inherited; VM_LOCKED is not. The child's VMA is in the parent's anon_vmas, behind the parent's
    VMA, before a pte is copied: a walk of reclaim meets the parent first.
    """
    yield down_write(k, parent)
    vmas = yield look_at_vmas(k, parent)
    for at in range(len(vmas)):
        old = vmas[at]
        new = yield new_vma(k, child, old.start, old.end, old.pgoff, old.flags & ~VM_LOCKED)
        if new < 0:
            raise RuntimeError(f"fork needs more than {k.config.vmas} VMAs: raise Config.vmas")
        yield from anon_vma_fork(k, new, old.anon_vma, old.chain)
        yield link_vma(k, child, new)
        yield from copy_page_range(k, child, parent, old.start, old.end, old.flags)
    yield up_write(k, parent)
    return 0


def anon_vma_fork(k: Kernel, vma: int, anon_vma: int, chain: tuple[int, ...]) -> Steps[None]:
    """`anon_vma_fork()`: into the parent's anon_vmas, then an anon_vma of its own under the same root."""
    if anon_vma < 0:
        return
    yield from anon_vma_clone(k, vma, chain)
    root = yield read_root(k, anon_vma)
    own = yield anon_vma_alloc(k, root)
    yield set_vma_anon_vma(k, vma, own)
    yield anon_vma_lock_write(k, root)
    yield anon_vma_chain_link(k, vma, own)
    yield anon_vma_unlock_write(k, root)


def copy_page_range(k: Kernel, dst: int, src: int, start: int, end: int, vm_flags: int) -> Steps[None]:
    """`copy_page_range()`, `copy_pte_range()`: all ptes of one VMA under both pte locks."""
    yield mmu_notifier_invalidate_range_start(k, src, start, end)
    yield spin_lock(k, dst)
    yield spin_lock(k, src)
    for address in range(start, end):
        yield from copy_one_pte(k, dst, src, address, vm_flags)
    yield pte_unmap_unlock(k, src)
    yield pte_unmap_unlock(k, dst)
    yield mmu_notifier_invalidate_range_end(k, src, start, end)
