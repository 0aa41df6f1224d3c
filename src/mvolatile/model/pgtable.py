"""Page-table entries and swap entries, as integers in the layout of 32-bit x86 with PAE (3.14, pgtable-3level.h).

A pte has 64 bits. A present pte keeps its flags and the low part of the page frame number in the low half and the
rest of the frame number in the high half; a swap entry lives wholly in the high half, its low half is zero. This
layout is the one in which a reader without the lock can meet two halves of different ages, so the same integers
serve the atomic 64-bit machine and the torn one.
"""

from __future__ import annotations

from typing import Final

_PAGE_PRESENT: Final = 1 << 0
_PAGE_RW: Final = 1 << 1
_PAGE_ACCESSED: Final = 1 << 5
_PAGE_DIRTY: Final = 1 << 6

PAGE_SHIFT: Final = 12
LOW: Final = 0xFFFF_FFFF

MAX_SWAPFILES_SHIFT: Final = 5
SWP_MIGRATION_NUM: Final = 2
SWP_HWPOISON_NUM: Final = 1
SWP_MVOLATILE_PURGED_NUM: Final = 1
MAX_SWAPFILES: Final = (
    (1 << MAX_SWAPFILES_SHIFT) - SWP_MIGRATION_NUM - SWP_HWPOISON_NUM - SWP_MVOLATILE_PURGED_NUM
)
SWP_MVOLATILE_PURGED: Final = MAX_SWAPFILES
"""The pseudo swap type of a purged page (v13 3/4, include/linux/swap.h): first of the non-swap types, 28."""

PTE_NONE: Final = 0


def swp_entry(swap_type: int, offset: int) -> int:
    """`swp_entry()`: a swap entry's value from its type and its slot."""
    return swap_type | offset << MAX_SWAPFILES_SHIFT


def swp_type(entry: int) -> int:
    """`swp_type()`: which swap area, or which pseudo type."""
    return entry & (1 << MAX_SWAPFILES_SHIFT) - 1


def swp_offset(entry: int) -> int:
    """`swp_offset()`: the slot in the swap area; slot 0 is the area's header and never a page."""
    return entry >> MAX_SWAPFILES_SHIFT


def non_swap_entry(entry: int) -> bool:
    """`non_swap_entry()`: a pseudo type, not a swap area."""
    return swp_type(entry) >= MAX_SWAPFILES


def make_purged_entry() -> int:
    """`make_purged_entry()` (v13 3/4, include/linux/swapops.h)."""
    return swp_entry(SWP_MVOLATILE_PURGED, 0)


def is_purged_entry(entry: int) -> bool:
    """`is_purged_entry()` (v13 3/4, include/linux/swapops.h)."""
    return swp_type(entry) == SWP_MVOLATILE_PURGED


def swp_entry_to_pte(entry: int) -> int:
    """`swp_entry_to_pte()`: the entry is the high half, the low half is zero."""
    return entry << 32


def pte_to_swp_entry(pte: int) -> int:
    """`pte_to_swp_entry()`: looks at the high half alone, whatever the low half says."""
    return pte >> 32


PTE_PURGED: Final = swp_entry_to_pte(make_purged_entry())


def mk_pte(pfn: int, *, write: bool = False, dirty: bool = False, young: bool = True) -> int:
    """`mk_pte()` with `pte_mkwrite()`, `pte_mkdirty()`, `pte_mkyoung()`: a present pte that maps frame `pfn`."""
    return (
        _PAGE_PRESENT
        | (_PAGE_RW if write else 0)
        | (_PAGE_ACCESSED if young else 0)
        | (_PAGE_DIRTY if dirty else 0)
        | pfn << PAGE_SHIFT
    )


def pte_none(pte: int) -> bool:
    """`pte_none()`."""
    return pte == PTE_NONE


def pte_present(pte: int) -> bool:
    """`pte_present()`."""
    return bool(pte & _PAGE_PRESENT)


def pte_write(pte: int) -> bool:
    """`pte_write()`."""
    return bool(pte & _PAGE_RW)


def pte_young(pte: int) -> bool:
    """`pte_young()`."""
    return bool(pte & _PAGE_ACCESSED)


def pte_dirty(pte: int) -> bool:
    """`pte_dirty()`."""
    return bool(pte & _PAGE_DIRTY)


def pte_pfn(pte: int) -> int:
    """`pte_pfn()`."""
    return pte >> PAGE_SHIFT


def pte_mkyoung(pte: int) -> int:
    """`pte_mkyoung()`."""
    return pte | _PAGE_ACCESSED


def pte_mkold(pte: int) -> int:
    """`pte_mkold()`."""
    return pte & ~_PAGE_ACCESSED


def pte_mkdirty(pte: int) -> int:
    """`pte_mkdirty()`."""
    return pte | _PAGE_DIRTY


def pte_mkwrite(pte: int) -> int:
    """`pte_mkwrite()`."""
    return pte | _PAGE_RW


def pte_wrprotect(pte: int) -> int:
    """`pte_wrprotect()`."""
    return pte & ~_PAGE_RW


def describe(pte: int) -> str:
    """A pte in words, for drawings and messages."""
    if pte_none(pte):
        return "none"
    if pte_present(pte):
        bits = "".join(
            letter
            for letter, on in (("w", pte_write(pte)), ("y", pte_young(pte)), ("d", pte_dirty(pte)))
            if on
        )
        return f"page {pte_pfn(pte)}{' ' + bits if bits else ''}"
    entry = pte_to_swp_entry(pte)
    if is_purged_entry(entry) and not pte & LOW:
        return "purged"
    if non_swap_entry(entry):
        return f"entry {entry:#x}"
    return f"swap {swp_offset(entry)}"
