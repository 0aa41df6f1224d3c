"""Steps on page frames: the allocator, references, flags, rss counters and the LRU lists (mm/swap.c, page_alloc.c).

Per-CPU batching (pagevecs, per-CPU free lists, SPLIT_RSS_COUNTING) is left out: every step takes effect at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .state import (
    ACTIVE_ANON,
    ACTIVE_FILE,
    BAD_PAGE,
    INACTIVE_ANON,
    INACTIVE_FILE,
    STALE_SECONDARY,
    UNEVICTABLE,
    Kernel,
    PG_active,
    PG_lru,
    PG_mlocked,
    PG_swapbacked,
    PG_swapcache,
    PG_unevictable,
    PG_uptodate,
    World,
)
from .steps import Op, put, puts, read

POISON = -1
"""The data of a freed page, so that whoever reads it is found out."""


@cache
def alloc_page(k: Kernel, data: int | None = None) -> Op:
    """`alloc_page_vma()`: a page with one reference, or 0 if there is none; `data` 0 for a zeroed one."""

    def perform(world: World) -> tuple[World, int]:
        free = world[k.free_pages]
        if not free:
            return world, 0
        page = free[0]
        return (
            puts(
                world,
                (k.free_pages, free[1:]),
                (k.count(page), 1),
                (k.flags(page), 0),
                (k.mapping(page), -1),
                (k.private(page), 0),
                (k.data(page), POISON if data is None else data),
            ),
            page,
        )

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        free = world[k.free_pages]
        cells = [k.free_pages]
        if free:
            page = free[0]
            cells += [k.count(page), k.flags(page), k.mapping(page), k.private(page), k.data(page)]
        return frozenset(cells), frozenset(cells)

    return Op("alloc_page" if data is None else "alloc_zeroed_page", perform, footprint=footprint)


def _freed(k: Kernel, world: World, page: int) -> list[tuple[int, Any]]:
    """What changes when the last reference goes."""
    flags = world[k.flags(page)]
    sin = BAD_PAGE if world[k.mapcount(page)] or flags & PG_swapcache or world[k.page_lock(page)] else 0
    if any(world[cell] == page for cell in _sptes(k)):
        sin |= STALE_SECONDARY
    changes = [
        (k.count(page), 0),
        (k.flags(page), 0),
        (k.mapping(page), -1),
        (k.data(page), POISON),
        (k.kept(page), None),
        (k.free_pages, tuple(sorted((*world[k.free_pages], page)))),
        (k.page_wrong(page), world[k.page_wrong(page)] | sin),
    ]
    if flags & PG_lru:
        lst = k.lru(page_lru(flags))
        changes.append((lst, tuple(other for other in world[lst] if other != page)))
    return changes


def _sptes(k: Kernel) -> range:
    return range(k.spte(0, 0), k.spte(0, 0) + k.config.processes * k.config.addresses)


def _freed_cells(k: Kernel, world: World, page: int) -> tuple[frozenset[int], frozenset[int]]:
    writes = frozenset(cell for cell, _ in _freed(k, world, page))
    reads = writes | {k.mapcount(page), k.page_lock(page), *_sptes(k)}
    return reads, writes


@cache
def get_page(k: Kernel, page: int) -> Op:
    """`get_page()`."""
    cell = k.count(page)
    return Op(
        f"get_page(page {page})", lambda world: (put(world, cell, world[cell] + 1), None), writes=(cell,)
    )


@cache
def page_cache_release(k: Kernel, page: int) -> Op:
    """`page_cache_release()`, `put_page()`: frees the page with the last reference."""
    cell = k.count(page)

    def perform(world: World) -> tuple[World, None]:
        count = world[cell]
        if count > 1:
            return put(world, cell, count - 1), None
        if count == 1:
            return puts(world, *_freed(k, world, page)), None
        wrong = k.page_wrong(page)
        return put(world, wrong, world[wrong] | BAD_PAGE), None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        if world[cell] > 1:
            return frozenset((cell,)), frozenset((cell,))
        return _freed_cells(k, world, page)

    return Op(f"page_cache_release(page {page})", perform, footprint=footprint)


@cache
def free_hot_cold_page(k: Kernel, page: int) -> Op:
    """`free_hot_cold_page_list()` on a page whose references are frozen at 0."""

    def perform(world: World) -> tuple[World, None]:
        return puts(world, *_freed(k, world, page)), None

    return Op(
        f"free_hot_cold_page(page {page})",
        perform,
        footprint=lambda world: _freed_cells(k, world, page),
    )


@cache
def page_freeze_refs(k: Kernel, page: int, count: int) -> Op:
    """`page_freeze_refs()`: from exactly `count` references to none, or False."""
    cell = k.count(page)
    return Op(
        f"page_freeze_refs(page {page}, {count})",
        lambda world: (put(world, cell, 0), True) if world[cell] == count else (world, False),
        writes=(cell,),
    )


@cache
def page_unfreeze_refs(k: Kernel, page: int, count: int) -> Op:
    """`page_unfreeze_refs()`."""
    cell = k.count(page)
    return Op(
        f"page_unfreeze_refs(page {page}, {count})",
        lambda world: (put(world, cell, count), None),
        writes=(cell,),
    )


@cache
def read_flags(k: Kernel, page: int, what: str) -> Op:
    """An unlocked look at page->flags; `what` is the kernel's name for it."""
    return read(f"{what}(page {page})", k.flags(page))


@cache
def change_flags(k: Kernel, page: int, what: str, on: int, off: int = 0) -> Op:
    """Set and clear bits of page->flags at once; answers the old flags."""
    cell = k.flags(page)
    return Op(
        f"{what}(page {page})",
        lambda world: (put(world, cell, world[cell] & ~off | on), world[cell]),
        writes=(cell,),
    )


@cache
def page_mapped(k: Kernel, page: int) -> Op:
    """`page_mapped()`, unlocked; answers `page_mapcount()`."""
    return read(f"page_mapped(page {page})", k.mapcount(page))


@cache
def page_count(k: Kernel, page: int) -> Op:
    """`page_count()`, unlocked."""
    return read(f"page_count(page {page})", k.count(page))


@cache
def page_remove_rmap(k: Kernel, page: int) -> Op:
    """`page_remove_rmap()`."""
    cell, wrong = k.mapcount(page), k.page_wrong(page)

    def perform(world: World) -> tuple[World, None]:
        if world[cell] < 1:
            return put(world, wrong, world[wrong] | BAD_PAGE), None
        return put(world, cell, world[cell] - 1), None

    return Op(f"page_remove_rmap(page {page})", perform, writes=(cell, wrong))


@cache
def page_dup_rmap(k: Kernel, page: int) -> Op:
    """`page_dup_rmap()`: one mapping more."""
    cell = k.mapcount(page)
    return Op(
        f"page_dup_rmap(page {page})",
        lambda world: (put(world, cell, world[cell] + 1), None),
        writes=(cell,),
    )


@cache
def set_page_anon_rmap(k: Kernel, page: int, anon_vma: int, index: int) -> Op:
    """`__page_set_anon_rmap()`, `page_move_anon_rmap()`: which anon_vma the page belongs to."""
    return Op(
        f"page_set_anon_rmap(page {page}, anon_vma{anon_vma})",
        lambda world: (puts(world, (k.mapping(page), anon_vma), (k.index(page), index)), None),
        writes=(k.mapping(page), k.index(page)),
    )


@cache
def copy_user_page(k: Kernel, new: int, old: int) -> Op:
    """`cow_user_page()`."""
    return Op(
        f"cow_user_page(page {new}, page {old})",
        lambda world: (put(world, k.data(new), world[k.data(old)]), None),
        reads=(k.data(old),),
        writes=(k.data(new),),
    )


@cache
def add_mm_counters(k: Kernel, mm: int, anon: int, swap: int) -> Op:
    """`add_mm_counter()` for MM_ANONPAGES and MM_SWAPENTS, the pte lock held."""
    rss, swapents, peak = k.anon_rss(mm), k.swapents(mm), k.max_rss(mm)

    def perform(world: World) -> tuple[World, None]:
        now = world[rss] + anon
        return (
            puts(world, (rss, now), (swapents, world[swapents] + swap), (peak, max(world[peak], now))),
            None,
        )

    label = ", ".join(f"{name}{by:+d}" for name, by in (("MM_ANONPAGES", anon), ("MM_SWAPENTS", swap)) if by)
    return Op(f"add_mm_counter(mm{mm} {label})", perform, writes=(rss, swapents, peak))


@cache
def update_hiwater_rss(k: Kernel, mm: int) -> Op:
    """`update_hiwater_rss()`: before rss falls."""
    rss, hiwater = k.anon_rss(mm), k.hiwater(mm)
    return Op(
        f"update_hiwater_rss(mm{mm})",
        lambda world: (put(world, hiwater, max(world[hiwater], world[rss])), None),
        reads=(rss,),
        writes=(hiwater,),
    )


def page_lru(flags: int) -> int:
    """`page_lru()`: which list the flags name."""
    if flags & PG_unevictable:
        return UNEVICTABLE
    if flags & PG_swapbacked:
        return ACTIVE_ANON if flags & PG_active else INACTIVE_ANON
    return ACTIVE_FILE if flags & PG_active else INACTIVE_FILE


@cache
def lru_cache_add(k: Kernel, page: int, flags: int = PG_active | PG_swapbacked | PG_uptodate) -> Op:
    """`lru_cache_add()`: to the head of the list that its flags name. An anonymous page begins active."""
    cell = k.flags(page)

    def perform(world: World) -> tuple[World, None]:
        now = world[cell] | flags | PG_lru
        lst = k.lru(page_lru(now))
        return puts(world, (cell, now), (lst, (page, *world[lst]))), None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        cells = frozenset((cell, k.lru(page_lru(world[cell] | flags))))
        return cells, cells

    return Op(f"lru_cache_add(page {page})", perform, footprint=footprint)


@cache
def isolate_lru_page(k: Kernel, lst: int) -> Op:
    """`isolate_lru_pages()`: the page at the tail of a list, with a reference and off the list; 0 if it is empty."""
    lru = k.lru(lst)

    def perform(world: World) -> tuple[World, int]:
        pages = world[lru]
        if not pages:
            return world, 0
        page = pages[-1]
        flags, count = k.flags(page), k.count(page)
        return (
            puts(world, (lru, pages[:-1]), (flags, world[flags] & ~PG_lru), (count, world[count] + 1)),
            page,
        )

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        pages = world[lru]
        cells = frozenset((lru, k.flags(pages[-1]), k.count(pages[-1])) if pages else (lru,))
        return cells, (cells if pages else frozenset())

    name = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")[lst]
    return Op(f"isolate_lru_pages({name})", perform, footprint=footprint)


@cache
def putback_lru_page(k: Kernel, page: int) -> Op:
    """`putback_inactive_pages()`, `putback_lru_page()`: on its list again, the isolation's reference dropped."""
    cell = k.flags(page)

    def perform(world: World) -> tuple[World, None]:
        flags = world[cell]
        unevictable = PG_unevictable if flags & PG_mlocked else 0
        now = (flags & ~(PG_unevictable | (PG_active if unevictable else 0))) | unevictable | PG_lru
        lst = k.lru(page_lru(now))
        if world[k.count(page)] == 1:
            return puts(world, *_freed(k, put(world, cell, flags & ~PG_lru), page)), None
        count = (k.count(page), world[k.count(page)] - 1)
        return puts(world, (cell, now), (lst, (page, *world[lst])), count), None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        if world[k.count(page)] == 1:
            reads, writes = _freed_cells(k, put(world, cell, world[cell] & ~PG_lru), page)
            return reads | {cell}, writes
        flags = world[cell]
        lst = UNEVICTABLE if flags & PG_mlocked else page_lru(flags & ~PG_unevictable)
        cells = frozenset((cell, k.lru(lst), k.count(page)))
        return cells, cells

    return Op(f"putback_lru_page(page {page})", perform, footprint=footprint)


@cache
def mlock_vma_page(k: Kernel, page: int) -> Op:
    """`mlock_vma_page()`, the page locked: PG_mlocked, and to the unevictable list if it can be isolated."""
    cell = k.flags(page)

    def perform(world: World) -> tuple[World, None]:
        flags = world[cell]
        if flags & PG_mlocked or not flags & PG_lru or flags & PG_unevictable:
            return put(world, cell, flags | PG_mlocked), None
        old = k.lru(page_lru(flags))
        new = k.lru(UNEVICTABLE)
        return (
            puts(
                world,
                (cell, (flags & ~PG_active) | PG_mlocked | PG_unevictable),
                (old, tuple(other for other in world[old] if other != page)),
                (new, (page, *world[new])),
            ),
            None,
        )

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        flags = world[cell]
        if flags & PG_mlocked or not flags & PG_lru or flags & PG_unevictable:
            cells = frozenset((cell,))
        else:
            cells = frozenset((cell, k.lru(page_lru(flags)), k.lru(UNEVICTABLE)))
        return cells, cells

    return Op(f"mlock_vma_page(page {page})", perform, footprint=footprint)


@cache
def clear_page_mlock(k: Kernel, page: int, why: str = "clear_page_mlock") -> Op:
    """`clear_page_mlock()`, `munlock_vma_page()`: no longer PG_mlocked, and back among the evictable pages."""
    cell = k.flags(page)

    def perform(world: World) -> tuple[World, None]:
        flags = world[cell]
        now = flags & ~PG_mlocked
        if not flags & PG_lru or not flags & PG_unevictable:
            return put(world, cell, now), None
        now &= ~PG_unevictable
        old, new = k.lru(UNEVICTABLE), k.lru(page_lru(now))
        kept = tuple(other for other in world[old] if other != page)
        return puts(world, (cell, now), (old, kept), (new, (page, *world[new]))), None

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        flags = world[cell]
        cells = frozenset((cell,))
        if flags & PG_lru and flags & PG_unevictable:
            cells |= {k.lru(UNEVICTABLE), k.lru(page_lru(flags & ~PG_unevictable))}
        return cells, cells

    return Op(f"{why}(page {page})", perform, footprint=footprint)
