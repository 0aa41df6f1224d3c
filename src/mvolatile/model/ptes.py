"""Steps on page-table entries, with and without the pte lock, and what the hardware does with them.

On the torn machine a pte is two words: the kernel writes the high half of a new pte before the low one and clears
the low half first, so that hardware never sees a half-made present pte; a reader without the lock reads two
words, low half first, and has no such care taken for it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .pgtable import (
    LOW,
    describe,
    pte_mkdirty,
    pte_mkold,
    pte_mkyoung,
    pte_pfn,
    pte_present,
    pte_write,
    pte_wrprotect,
    pte_young,
)
from .state import BAD_DATA, CLEARED, LOST, SIGBUS_UNPURGED, STALE_SECONDARY, WHOLE, ZERO_PAGE, Kernel, World
from .steps import Op, Steps, put, puts, read


@cache
def pte_under_lock(k: Kernel, mm: int, address: int) -> Op:
    """``*pte`` with the pte lock held."""
    return read(f"*pte (mm{mm} page {address})", k.pte(mm, address))


@cache
def _pte_word(k: Kernel, mm: int, address: int, high: bool) -> Op:
    cell, ghost = k.pte(mm, address), k.ghost(mm, address)
    name, mask = ("high", ~LOW) if high else ("low", LOW)
    return Op(
        f"pte_{name} unlocked (mm{mm} page {address})",
        lambda world: (world, (world[cell] & mask, world[ghost][2] != WHOLE)),
        reads=(cell, ghost),
    )


@cache
def pte_unlocked(k: Kernel, mm: int, address: int) -> Op:
    """``*pte`` without the pte lock, where only the present bit counts."""
    return read(f"*pte unlocked (mm{mm} page {address})", k.pte(mm, address))


@cache
def _whole_pte_unlocked(k: Kernel, mm: int, address: int) -> Op:
    cell, ghost = k.pte(mm, address), k.ghost(mm, address)
    return Op(
        f"entry = *pte unlocked (mm{mm} page {address})",
        lambda world: (world, (world[cell], world[ghost][2] != WHOLE)),
        reads=(cell, ghost),
    )


def read_pte_unlocked(k: Kernel, mm: int, address: int) -> Steps[tuple[int, bool]]:
    """``entry = *pte`` without the pte lock, as in `handle_pte_fault`: one step, or two on the torn machine.

    The ghost comes along: whether the page was lost then, so that a SIGBUS can be judged by when it was decided.
    """
    if k.config.torn_reads:
        low, lost_then = yield _pte_word(k, mm, address, False)
        high, lost_now = yield _pte_word(k, mm, address, True)
        return int(low | high), bool(lost_then or lost_now)
    entry, lost = yield _whole_pte_unlocked(k, mm, address)
    return int(entry), bool(lost)


@cache
def _set_pte(k: Kernel, mm: int, address: int, pte: int, label: str) -> Op:
    cell, spte, wrong = k.pte(mm, address), k.spte(mm, address), k.wrong(mm, address)

    def perform(world: World) -> tuple[World, None]:
        stale = world[spte] and pte_present(pte) and world[spte] != k.page(pte_pfn(pte))
        if stale:
            return puts(world, (cell, pte), (wrong, world[wrong] | STALE_SECONDARY)), None
        return put(world, cell, pte), None

    reads, writes = (cell, spte), ((cell, wrong) if pte_present(pte) else (cell,))
    return Op(f"{label}(mm{mm} page {address}: {describe(pte)})", perform, reads=reads, writes=writes)


@cache
def _set_pte_high(k: Kernel, mm: int, address: int, pte: int) -> Op:
    cell = k.pte(mm, address)

    def perform(world: World) -> tuple[World, None]:
        return put(world, cell, pte & ~LOW | world[cell] & LOW), None

    return Op(f"set pte_high (mm{mm} page {address}: {describe(pte)})", perform, writes=(cell,))


def set_pte_at(k: Kernel, mm: int, address: int, pte: int) -> Steps[None]:
    """`set_pte_at()`, the pte lock held; on the torn machine the high half goes first (`native_set_pte`)."""
    if k.config.torn_reads:
        yield _set_pte_high(k, mm, address, pte)
        yield _set_pte(k, mm, address, pte, "set pte_low")
    else:
        yield _set_pte(k, mm, address, pte, "set_pte_at")


def _given_up(ghost: tuple[int, bool, int]) -> tuple[int, bool, int]:
    """The program expects zeros. A loss that an unmark has found and not told yet is still to be told."""
    _, volatile, loss = ghost
    return 0, volatile, CLEARED if loss == CLEARED else WHOLE


@cache
def _clear(k: Kernel, mm: int, address: int, keep_high: bool, give_up: bool) -> Op:
    cell, ghost = k.pte(mm, address), k.ghost(mm, address)
    label = "xchg pte_low" if keep_high else "ptep_clear_flush"

    def perform(world: World) -> tuple[World, int]:
        old = world[cell]
        changes: list[tuple[int, Any]] = [(cell, old & ~LOW if keep_high else 0)]
        if give_up and (pte_present(old) or not keep_high):
            changes.append((ghost, _given_up(world[ghost])))
        return puts(world, *changes), old

    return Op(f"{label}(mm{mm} page {address})", perform, writes=(cell, ghost) if give_up else (cell,))


@cache
def _clear_high(k: Kernel, mm: int, address: int, give_up: bool) -> Op:
    """The second half. A marker or a swap entry is in force until now, since it lives in the high half."""
    cell, ghost = k.pte(mm, address), k.ghost(mm, address)

    def perform(world: World) -> tuple[World, None]:
        changes: list[tuple[int, Any]] = [(cell, world[cell] & LOW)]
        if give_up:
            changes.append((ghost, _given_up(world[ghost])))
        return puts(world, *changes), None

    writes = (cell, ghost) if give_up else (cell,)
    return Op(f"pte_high = 0 (mm{mm} page {address})", perform, writes=writes)


def ptep_clear_flush(k: Kernel, mm: int, address: int, give_up: bool = False) -> Steps[int]:
    """`ptep_clear_flush()`, `ptep_get_and_clear()`: the old pte. The TLB flush is part of it.

    `give_up`: the program asked for it (munmap, exit, MADV_DONTNEED) and expects zeros from now on.
    """
    old = yield _clear(k, mm, address, k.config.torn_reads, give_up)
    if k.config.torn_reads:
        yield _clear_high(k, mm, address, give_up)
    return int(old)


@cache
def ptep_clear_flush_young_notify(k: Kernel, mm: int, address: int) -> Op:
    """`ptep_clear_flush_young_notify()`: whether the pte had been used; it is old afterwards."""
    cell = k.pte(mm, address)

    def perform(world: World) -> tuple[World, bool]:
        pte = world[cell]
        if pte_young(pte):
            return put(world, cell, pte_mkold(pte)), True
        return world, False

    return Op(f"ptep_clear_flush_young_notify(mm{mm} page {address})", perform, writes=(cell,))


@cache
def ptep_set_wrprotect(k: Kernel, mm: int, address: int) -> Op:
    """`ptep_set_wrprotect()`."""
    cell = k.pte(mm, address)
    return Op(
        f"ptep_set_wrprotect(mm{mm} page {address})",
        lambda world: (put(world, cell, pte_wrprotect(world[cell])), None),
        writes=(cell,),
    )


@cache
def touch(k: Kernel, mm: int, address: int, value: int | None) -> Op:
    """A load (`value` None) or a store by the processor: walks the page table and, if it may, does it.

    Answers ``(done, value loaded)``. What is loaded is compared with what the
    program may expect: the last value stored, zero before, unless the kernel purged the page.
    """
    pte_cell, ghost, wrong = k.pte(mm, address), k.ghost(mm, address), k.wrong(mm, address)
    what = f"load (mm{mm} page {address})" if value is None else f"store {value} (mm{mm} page {address})"

    def perform(world: World) -> tuple[World, tuple[bool, int]]:
        pte = world[pte_cell]
        if not pte_present(pte) or (value is not None and not pte_write(pte)):
            return world, (False, 0)
        expect, volatile, loss = world[ghost]
        page = k.page(pte_pfn(pte))
        sin = BAD_DATA if loss == LOST else 0
        changes: list[tuple[int, Any]] = []
        if value is None:
            found = 0 if page == ZERO_PAGE else world[k.data(page)]
            sin |= BAD_DATA if found != expect and loss != CLEARED else 0
            changes.append((pte_cell, pte_mkyoung(pte)))
        else:
            found = value
            changes += [
                (pte_cell, pte_mkdirty(pte_mkyoung(pte))),
                (k.data(page), value),
                (ghost, (value, volatile, loss)),
            ]
        return puts(world, *changes, (wrong, world[wrong] | sin)), (True, found)

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        pte = world[pte_cell]
        if not pte_present(pte) or (value is not None and not pte_write(pte)):
            return frozenset((pte_cell,)), frozenset()
        page = k.page(pte_pfn(pte))
        reads = frozenset((pte_cell, ghost, k.data(page), wrong))
        if value is None:
            return reads, frozenset((pte_cell, wrong))
        return reads, reads

    return Op(what, perform, footprint=footprint)


@cache
def sigbus(k: Kernel, mm: int, address: int, lost: bool) -> Op:
    """SIGBUS is delivered. It is right if the page was `lost`, and that not reported, when it was decided."""
    wrong = k.wrong(mm, address)

    def perform(world: World) -> tuple[World, None]:
        return (world if lost else put(world, wrong, world[wrong] | SIGBUS_UNPURGED)), None

    return Op(f"SIGBUS (mm{mm} page {address})", perform, writes=(wrong,))


@cache
def ghost_copy(k: Kernel, dst: int, src: int, address: int) -> Op:
    """fork: the child's program knows of this page what the parent's did."""
    new, old = k.ghost(dst, address), k.ghost(src, address)
    return Op(
        f"mm{dst} page {address} is now as in mm{src}",
        lambda world: (put(world, new, world[old]), None),
        reads=(old,),
        writes=(new,),
    )
