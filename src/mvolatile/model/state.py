"""The modelled machine: which cells the world has, and where they are.

The world is one flat tuple. A *cell* is an index into it, and cells are what operations name as their reads and
writes. `Kernel` knows the index of every cell and the variant of the patch that runs; it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from .variants import VARIANTS, Variant

World = tuple[Any, ...]

ZERO_PAGE: Final = 0
"""The frame number of the shared page of zeros; it is on no list and is not counted."""

# Page flags, page->flags. PG_locked has a cell of its own, `page_lock`; PageAnon is in `mapping`.
PG_referenced: Final = 1 << 0
PG_uptodate: Final = 1 << 1
PG_dirty: Final = 1 << 2
PG_lru: Final = 1 << 3
PG_active: Final = 1 << 4
PG_writeback: Final = 1 << 5
PG_swapcache: Final = 1 << 6
PG_swapbacked: Final = 1 << 7
PG_unevictable: Final = 1 << 8
PG_mlocked: Final = 1 << 9

# vm_flags, with the kernel's values; VM_VOLATILE is v13 2/4's.
VM_WRITE: Final = 0x0000_0002
VM_VOLATILE: Final = 0x0000_1000
VM_LOCKED: Final = 0x0000_2000
VM_SPECIAL: Final = 0x0400_0000
VM_FILE: Final = 0x1_0000_0000
"""Not a kernel flag: stands for `vma->vm_file`, which the call asks for."""

# LRU lists.
INACTIVE_ANON: Final = 0
ACTIVE_ANON: Final = 1
INACTIVE_FILE: Final = 2
ACTIVE_FILE: Final = 3
UNEVICTABLE: Final = 4
NR_LRU_LISTS: Final = 5

SWAP_HAS_CACHE: Final = 0x40

# What the ghost of a virtual page says of its loss.
WHOLE: Final = 0
LOST: Final = 1
"""The kernel purged it and the marker stands."""
CLEARED: Final = 2
"""An unmark has taken the marker away and has not reported yet."""

# What went wrong, as bits: in `wrong(mm, address)` and `page_wrong(page)`.
SIGBUS_UNPURGED: Final = 1 << 0
BAD_DATA: Final = 1 << 1
LOST_REPORT: Final = 1 << 2
PURGED_NONVOLATILE: Final = 1 << 3
STALE_SECONDARY: Final = 1 << 4
HALF_PURGED: Final = 1 << 5
STARVED: Final = 1 << 6
BAD_PAGE: Final = 1 << 7
FALSE_REPORT: Final = 1 << 8
FALSE_OOM: Final = 1 << 9
WASTED: Final = 1 << 10


class KernelBug(AssertionError):  # noqa: N818 - what lkml calls it
    """The kernel would have crashed or damaged itself: BUG_ON, NULL dereference, use after free, out of bounds."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no_kernel_bug: {what}")


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of the machine, all of them bounds of what a search proves, and its two options.

    `torn_reads`: a pte is read without its lock in two halves and written in two halves, as on 32-bit x86 with PAE.
    `pfn_high`: bits 20 and up of every frame number; on the torn machine they fill the high half of a present pte.
    """

    processes: int = 2
    addresses: int = 2
    frames: int = 3
    vmas: int = 6
    anon_vmas: int = 3
    slots: int = 2
    torn_reads: bool = False
    pfn_high: int = 0


class Kernel:
    """The layout of one machine and the variant of the patch it runs. Compared by value; made once, see `kernel`."""

    def __init__(self, variant: Variant, config: Config) -> None:
        self.variant = variant
        self.config = config
        self._hash = hash((variant, config))
        self.names: list[str] = []
        self.boot: list[Any] = []
        frames, processes, vmas = config.frames + 1, config.processes, config.vmas
        pages = processes * config.addresses
        self._page_lock = self._cells("PG_locked", frames, 0)
        self._flags = self._cells("flags", frames, 0)
        self._mapcount = self._cells("_mapcount", frames, 0)
        self._count = self._cells("_count", frames, 0)
        self._data = self._cells("data", frames, 0)
        self._mapping = self._cells("mapping", frames, -1)
        self._index = self._cells("index", frames, 0)
        self._private = self._cells("private", frames, 0)
        self._pins = self._cells("pins", frames, 0)
        self._page_wrong = self._cells("page_wrong", frames, 0)
        self._kept = self._cells("kept", frames, None)
        self.free_pages = self._cell("free_pages", tuple(range(1, frames)))
        self._lru = self._cells("lru", NR_LRU_LISTS, ())
        self._mmap_sem = self._cells("mmap_sem", processes, 0)
        self._ptl = self._cells("ptl", processes, 0)
        self._mmap = self._cells("mmap", processes, ())
        self._anon_rss = self._cells("MM_ANONPAGES", processes, 0)
        self._swapents = self._cells("MM_SWAPENTS", processes, 0)
        self._hiwater = self._cells("hiwater_rss", processes, 0)
        self._max_rss = self._cells("max_rss", processes, 0)
        self._notifier = self._cells("mmu_notifier", processes, (0, 0))
        self._pte = self._cells("pte", pages, 0)
        self._spte = self._cells("spte", pages, 0)
        self._ghost = self._cells("ghost", pages, (0, False, WHOLE))
        self._wrong = self._cells("wrong", pages, 0)
        self._vm_flags = self._cells("vm_flags", vmas, 0)
        self._extent = self._cells("extent", vmas, None)
        self._anon_vma = self._cells("anon_vma", vmas, -1)
        self._chain = self._cells("anon_vma_chain", vmas, ())
        self._root = self._cells("root", config.anon_vmas, -1)
        self._rwsem = self._cells("rwsem", config.anon_vmas, 0)
        self._tree = self._cells("rb_root", config.anon_vmas, ())
        self._swap_map = self._cells("swap_map", config.slots + 1, 0)
        self._swap_page = self._cells("swap_cache", config.slots + 1, 0)
        self._swap_data = self._cells("swap_data", config.slots + 1, 0)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Kernel) and (self.variant, self.config) == (other.variant, other.config)
        )

    def __hash__(self) -> int:
        return self._hash

    def _cell(self, name: str, value: Any) -> int:
        self.names.append(name)
        self.boot.append(value)
        return len(self.boot) - 1

    def _cells(self, name: str, number: int, value: Any) -> int:
        for at in range(number):
            self._cell(f"{name}[{at}]", value)
        return len(self.boot) - number

    @property
    def world(self) -> World:
        """A machine with nothing in it."""
        return tuple(self.boot)

    @property
    def watched(self) -> tuple[int, ...]:
        """The cells in which wrongs are remembered: all that the properties look at before the end."""
        pages = self.config.processes * self.config.addresses
        return (
            *range(self._wrong, self._wrong + pages),
            *range(self._page_wrong, self._page_wrong + self.config.frames + 1),
        )

    # Page frames

    def page_lock(self, page: int) -> int:
        """PG_locked: 0 or 1."""
        return self._page_lock + page

    def flags(self, page: int) -> int:
        """page->flags: the PG_ bits."""
        return self._flags + page

    def mapcount(self, page: int) -> int:
        """page->_mapcount plus one: how many ptes map the page."""
        return self._mapcount + page

    def count(self, page: int) -> int:
        """page->_count: references; 0 when free or frozen."""
        return self._count + page

    def data(self, page: int) -> int:
        """What is on the page: a number; 0 stands for zeros."""
        return self._data + page

    def mapping(self, page: int) -> int:
        """page->mapping: the anon_vma of an anonymous page (PageAnon), else -1."""
        return self._mapping + page

    def index(self, page: int) -> int:
        """page->index: the page offset in its anon_vma."""
        return self._index + page

    def private(self, page: int) -> int:
        """page_private(): the swap entry of a page in the swap cache."""
        return self._private + page

    def pins(self, page: int) -> int:
        """Ghost: references that get_user_pages has handed out and that are still held."""
        return self._pins + page

    def page_wrong(self, page: int) -> int:
        """Ghost: what went wrong with this page, as bits."""
        return self._page_wrong + page

    def kept(self, page: int) -> int:
        """Ghost: how everything stood when a purge of this page last failed, or None."""
        return self._kept + page

    def lru(self, lst: int) -> int:
        """An LRU list: a tuple of pages, head first."""
        return self._lru + lst

    # Processes

    def mmap_sem(self, mm: int) -> int:
        """mm->mmap_sem: readers, or -1 for the writer."""
        return self._mmap_sem + mm

    def ptl(self, mm: int) -> int:
        """The pte lock: the modelled address space has one page table."""
        return self._ptl + mm

    def mmap(self, mm: int) -> int:
        """mm->mmap: a tuple of VMAs in the order of their addresses."""
        return self._mmap + mm

    def anon_rss(self, mm: int) -> int:
        """MM_ANONPAGES."""
        return self._anon_rss + mm

    def swapents(self, mm: int) -> int:
        """MM_SWAPENTS."""
        return self._swapents + mm

    def hiwater(self, mm: int) -> int:
        """mm->hiwater_rss."""
        return self._hiwater + mm

    def max_rss(self, mm: int) -> int:
        """Ghost: the largest rss there ever was."""
        return self._max_rss + mm

    def notifier(self, mm: int) -> int:
        """The secondary MMU: (mmu_notifier_seq, mmu_notifier_count), as in KVM."""
        return self._notifier + mm

    def pte(self, mm: int, address: int) -> int:
        """A page-table entry."""
        return self._pte + mm * self.config.addresses + address

    def spte(self, mm: int, address: int) -> int:
        """The secondary page table's entry: a page, or 0."""
        return self._spte + mm * self.config.addresses + address

    def ghost(self, mm: int, address: int) -> int:
        """Ghost: (the data the program must find, whether it allows a purge, WHOLE or LOST or CLEARED)."""
        return self._ghost + mm * self.config.addresses + address

    def wrong(self, mm: int, address: int) -> int:
        """Ghost: what went wrong with this virtual page, as bits."""
        return self._wrong + mm * self.config.addresses + address

    # VMAs and anon_vmas

    def vm_flags(self, vma: int) -> int:
        """vma->vm_flags."""
        return self._vm_flags + vma

    def extent(self, vma: int) -> int:
        """(vm_mm, vm_start, vm_end, vm_pgoff), or None for a free structure."""
        return self._extent + vma

    def anon_vma(self, vma: int) -> int:
        """vma->anon_vma, or -1."""
        return self._anon_vma + vma

    def chain(self, vma: int) -> int:
        """vma->anon_vma_chain: a tuple of anon_vmas, the newest first, as list_add makes it."""
        return self._chain + vma

    def root(self, anon_vma: int) -> int:
        """anon_vma->root, whose rwsem is the lock; -1 for a free structure."""
        return self._root + anon_vma

    def rwsem(self, anon_vma: int) -> int:
        """anon_vma->rwsem: readers, or -1 for the writer."""
        return self._rwsem + anon_vma

    def tree(self, anon_vma: int) -> int:
        """anon_vma->rb_root: a tuple of VMAs in the order in which the interval tree is walked."""
        return self._tree + anon_vma

    # Swap

    def swap_map(self, slot: int) -> int:
        """swap_map[]: how many ptes hold the slot, and SWAP_HAS_CACHE."""
        return self._swap_map + slot

    def swap_page(self, slot: int) -> int:
        """The swap cache: the page that stands for the slot, or 0."""
        return self._swap_page + slot

    def swap_data(self, slot: int) -> int:
        """What is on the device."""
        return self._swap_data + slot

    # Frame numbers

    def pfn(self, page: int) -> int:
        """page_to_pfn()."""
        return page | self.config.pfn_high << 20 if page else 0

    def page(self, pfn: int) -> int:
        """pfn_to_page()."""
        return pfn & (1 << 20) - 1


@cache
def _kernel(variant: Variant, config: Config) -> Kernel:
    return Kernel(variant, config)


def kernel(variant: Variant | str = "fixed", config: Config | None = None) -> Kernel:
    """The machine for a variant, by name or as data, and sizes; the same object for the same arguments."""
    return _kernel(VARIANTS[variant] if isinstance(variant, str) else variant, config or Config())
