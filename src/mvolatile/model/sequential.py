"""The modelled machine with one processor: every call runs to its end before the next begins.

    machine = Machine()
    machine.mmap(0, 0, 4)                       # process 0 maps pages 0 to 3
    machine.write(0, 2, 7)                      # a system call stores 7 on page 2
    machine.mvolatile(0, 0, 4, MVOLATILE_VOLATILE)       # (4, 0)
    machine.purge(0, 2)                         # True: reclaim met the page, and it went
    machine.load(0, 2)                          # "SIGBUS"
    machine.mvolatile(0, 0, 4, MVOLATILE_NONVOLATILE)    # (4, 1)

What the patch leaves open is which page reclaim scans next; `purge` says it. Everything else has one outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from .fork import fork
from .mmap import do_mmap, do_munmap, exit_mmap, madvise_dontneed, mlock
from .mvolatile import mvolatile
from .pgtable import PTE_PURGED, pte_pfn, pte_present
from .properties import PROPERTIES, check
from .state import VM_VOLATILE, ZERO_PAGE, Config, Kernel, PG_lru, World, kernel
from .steps import Op, Steps, puts, run
from .user import copy_from_user, copy_to_user, get_user_pages, load, put_user_page, store
from .variants import Variant
from .vmscan import shrink_page_list

ROOMY: Final = Config(processes=4, addresses=10, frames=42, vmas=48, anon_vmas=112, slots=0)
"""Room for four processes that share nothing, with a VMA for every page."""


@cache
def isolate_page(k: Kernel, page: int) -> Op:
    """`isolate_lru_page()` of one page, wherever it is on its list, as MADV_PAGEOUT does; False if on none."""
    lists = [k.lru(lst) for lst in range(5)]
    flags, count = k.flags(page), k.count(page)

    def perform(world: World) -> tuple[World, bool]:
        if not world[flags] & PG_lru:
            return world, False
        kept = [(lst, tuple(p for p in world[lst] if p != page)) for lst in lists if page in world[lst]]
        return puts(world, *kept, (flags, world[flags] & ~PG_lru), (count, world[count] + 1)), True

    return Op(f"isolate_lru_page(page {page})", perform, writes=(*lists, flags, count))


def reclaim_page(k: Kernel, page: int) -> Steps[int]:
    """One page goes through `shrink_page_list`: 1 if it was reclaimed."""
    isolated = yield isolate_page(k, page)
    if not isolated:
        return 0
    return (yield from shrink_page_list(k, page))


def populate_write(k: Kernel, mm: int, address: int) -> Steps[int]:
    """MADV_POPULATE_WRITE of one page: it is there afterwards and shared with nobody; 0, or -1 if it cannot be."""
    page = yield from get_user_pages(k, mm, address)
    if not page:
        return -1
    yield from put_user_page(k, page)
    return 0


@cache
def put_anon_vmas(k: Kernel) -> Op:
    """`put_anon_vma()`: an anon_vma that no VMA, page or other anon_vma names may be used again.

    `unlink_anon_vmas` keeps them, because a reclaimer may still be on its way to one; here nobody is.
    """
    frames, vmas, anon_vmas = range(1, k.config.frames + 1), range(k.config.vmas), range(k.config.anon_vmas)

    def perform(world: World) -> tuple[World, None]:
        named = {world[k.mapping(page)] for page in frames if world[k.count(page)]}
        named |= {anon_vma for vma in vmas for anon_vma in world[k.chain(vma)]}
        named |= {world[k.root(at)] for at in anon_vmas if at in named or world[k.tree(at)]}
        free = [
            at for at in anon_vmas if world[k.root(at)] >= 0 and at not in named and not world[k.tree(at)]
        ]
        return puts(world, *((k.root(at), -1) for at in free)), None

    cells = [k.root(at) for at in anon_vmas]
    return Op("put_anon_vma", perform, writes=cells)


class Machine:
    """Processes 0 and up of one modelled machine, addressed in pages; `world` is its whole state, a value.

    Parameters
    ----------
    variant: which version of the patch, by name or as data.
    config: the sizes; `RuntimeError` when a program outgrows them.

    Results are those of the modelled calls: the mvolatile call gives ``(pages or -errno, purged)``, a load or a store
    the value or `"SIGBUS"` or `"SIGSEGV"`, a system call that touches memory the value or `"EFAULT"`.
    """

    def __init__(self, variant: Variant | str = "fixed", config: Config = ROOMY) -> None:
        self.k = kernel(variant, config)
        self.world = self.k.world

    def __call__(self, function: Callable[..., Steps[Any]], *args: Any, **kwargs: Any) -> Any:
        """Run any kernel function of the model, ``function(k, *args, **kwargs)``, to its end."""
        self.world, result = run(self.world, function(self.k, *args, **kwargs))
        return result

    # Calls of a process

    def mmap(self, mm: int, start: int, length: int) -> None:
        """`mmap(MAP_FIXED)` of private anonymous memory: what was there goes first."""
        self(do_munmap, mm, start, start + length)
        self(do_mmap, mm, start, start + length)

    def munmap(self, mm: int, start: int, length: int) -> int:
        """`munmap()`: 0."""
        return int(self(do_munmap, mm, start, start + length))

    def dontneed(self, mm: int, start: int, length: int) -> int:
        """`madvise(MADV_DONTNEED)`: 0. A purge that was not reported yet is forgotten."""
        return int(self(madvise_dontneed, mm, start, start + length))

    def mlock(self, mm: int, start: int, length: int) -> int:
        """`mlock()`: 0 or -errno."""
        return int(self(mlock, mm, start, start + length))

    def mvolatile(self, mm: int, start: int, length: int, mode: int, flags: int = 0) -> tuple[int, int]:
        """The call of the patch: (pages done or -errno, whether any was purged)."""
        ret, purged = self(mvolatile, mm, start, length, mode, flags)
        return int(ret), int(purged)

    def populate(self, mm: int, page: int) -> int:
        """`madvise(MADV_POPULATE_WRITE)` of one page: 0, or -1."""
        return int(self(populate_write, mm, page))

    def fork(self, parent: int, child: int) -> None:
        """`fork()` into the empty process `child`."""
        self(fork, parent, child)

    def exit(self, mm: int) -> None:
        """`exit()`: process `mm` is empty again."""
        self(exit_mmap, mm)
        self.world, _ = put_anon_vmas(self.k).perform(self.world)

    # What a process touches

    def load(self, mm: int, page: int) -> int | str:
        """A load."""
        return self(load, mm, page)  # type: ignore[no-any-return]

    def store(self, mm: int, page: int, value: int) -> int | str:
        """A store."""
        return self(store, mm, page, value)  # type: ignore[no-any-return]

    def read(self, mm: int, page: int) -> int | str:
        """A system call reads the page, as write(2) does."""
        found = self(copy_from_user, mm, page)
        return "EFAULT" if found == "SIGSEGV" else found

    def write(self, mm: int, page: int, value: int) -> int | str:
        """A system call writes to the page, as read(2) does."""
        found = self(copy_to_user, mm, page, value)
        return "EFAULT" if found == "SIGSEGV" else found

    # Reclaim

    def purge(self, mm: int, page: int) -> bool:
        """Reclaim scans the page frame behind this page: whether it went, from all that share it."""
        frame = self.frame(mm, page)
        return bool(frame and self(reclaim_page, frame))

    def may_purge(self, mm: int, page: int) -> bool:
        """Whether `purge` would take it; nothing changes."""
        before = self.world
        gone = self.purge(mm, page)
        self.world = before
        return gone

    # What there is

    def frame(self, mm: int, page: int) -> int:
        """The page frame that is mapped there; 0 for none, and for the page of zeros."""
        pte = self.world[self.k.pte(mm, page)]
        return self.k.page(pte_pfn(pte)) if pte_present(pte) and self.k.page(pte_pfn(pte)) != ZERO_PAGE else 0

    def sharers(self, mm: int, page: int) -> int:
        """How many ptes map the page frame that is mapped there."""
        frame = self.frame(mm, page)
        return int(self.world[self.k.mapcount(frame)]) if frame else 0

    def lost(self, mm: int) -> frozenset[int]:
        """The pages whose ptes are purged markers."""
        return frozenset(
            page for page in range(self.k.config.addresses) if self.world[self.k.pte(mm, page)] == PTE_PURGED
        )

    def volatile(self, mm: int) -> frozenset[int]:
        """The pages of VMAs with VM_VOLATILE."""
        vmas = (vma for vma in self.world[self.k.mmap(mm)] if self.world[self.k.vm_flags(vma)] & VM_VOLATILE)
        return frozenset(page for vma in vmas for page in range(*self.world[self.k.extent(vma)][1:3]))

    def mapped(self, mm: int) -> tuple[tuple[int, int], ...]:
        """Where anything is mapped: ``(first page, end)`` of each stretch of adjacent VMAs."""
        found: list[tuple[int, int]] = []
        for vma in self.world[self.k.mmap(mm)]:
            start, end = self.world[self.k.extent(vma)][1:3]
            joins = found and found[-1][1] == start
            found[-1:] = [(found[-1][0], end)] if joins else [*found[-1:], (start, end)]
        return tuple(found)

    def wrong(self) -> str | None:
        """Which properties do not hold now, or None."""
        return "; ".join(check(self.k, tuple(PROPERTIES), self.world, True)) or None
