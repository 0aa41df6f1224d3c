"""A secondary MMU beside each process's page table, with KVM's protocol (mmu_notifier_seq, mmu_notifier_count).

A secondary entry is made from what the primary page table gives, and only if no invalidation came between; it may be
used as long as no invalidation takes it away. `set_pte_at` notices a present pte that disagrees with it.
"""

from __future__ import annotations

from functools import cache

from .state import STALE_SECONDARY, Kernel, World
from .steps import Op, put, puts


@cache
def mmu_notifier_invalidate_page(k: Kernel, mm: int, address: int) -> Op:
    """`mmu_notifier_invalidate_page()`."""
    notifier, spte = k.notifier(mm), k.spte(mm, address)

    def perform(world: World) -> tuple[World, None]:
        seq, count = world[notifier]
        return puts(world, (notifier, (seq + 1, count)), (spte, 0)), None

    return Op(f"mmu_notifier_invalidate_page(mm{mm} page {address})", perform, writes=(notifier, spte))


@cache
def mmu_notifier_invalidate_range_start(k: Kernel, mm: int, start: int, end: int) -> Op:
    """`mmu_notifier_invalidate_range_start()`: takes the range away and keeps it away until the end."""
    notifier = k.notifier(mm)
    sptes = tuple(k.spte(mm, address) for address in range(start, end))

    def perform(world: World) -> tuple[World, None]:
        seq, count = world[notifier]
        return puts(world, (notifier, (seq, count + 1)), *((spte, 0) for spte in sptes)), None

    return Op(
        f"mmu_notifier_invalidate_range_start(mm{mm} [{start}, {end}))", perform, writes=(notifier, *sptes)
    )


@cache
def mmu_notifier_invalidate_range_end(k: Kernel, mm: int, start: int, end: int) -> Op:
    """`mmu_notifier_invalidate_range_end()`."""
    notifier = k.notifier(mm)

    def perform(world: World) -> tuple[World, None]:
        seq, count = world[notifier]
        return put(world, notifier, (seq + 1, count - 1)), None

    return Op(f"mmu_notifier_invalidate_range_end(mm{mm} [{start}, {end}))", perform, writes=(notifier,))


@cache
def mmu_notifier_seq(k: Kernel, mm: int) -> Op:
    """``kvm->mmu_notifier_seq``, read before the primary page table is."""
    cell = k.notifier(mm)
    return Op(f"mmu_notifier_seq(mm{mm})", lambda world: (world, world[cell][0]), reads=(cell,))


@cache
def map_secondary(k: Kernel, mm: int, address: int, page: int, seq: int) -> Op:
    """Under mmu_lock: unless `mmu_notifier_retry()`, the secondary entry is made. Whether it was."""
    notifier, spte, wrong = k.notifier(mm), k.spte(mm, address), k.wrong(mm, address)

    def perform(world: World) -> tuple[World, bool]:
        if world[notifier] != (seq, 0):
            return world, False
        sin = 0 if world[k.count(page)] else STALE_SECONDARY
        return puts(world, (spte, page), (wrong, world[wrong] | sin)), True

    return Op(
        f"map secondary (mm{mm} page {address}: page {page})",
        perform,
        reads=(notifier, k.count(page)),
        writes=(spte, wrong),
    )
