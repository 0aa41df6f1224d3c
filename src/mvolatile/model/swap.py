"""Swap slots and the swap cache (mm/swapfile.c, mm/swap_state.c, mm/page_io.c), over a device that writes at once."""

from __future__ import annotations

from functools import cache

from .page import (
    alloc_page,
    change_flags,
    lru_cache_add,
    page_cache_release,
    page_mapped,
    read_flags,
)
from .pgtable import non_swap_entry, swp_entry, swp_offset
from .state import (
    SWAP_HAS_CACHE,
    Kernel,
    KernelBug,
    PG_dirty,
    PG_swapbacked,
    PG_swapcache,
    PG_uptodate,
    PG_writeback,
    World,
)
from .steps import Op, Steps, lock_page, put, puts, read, trylock_page, unlock_page

NO_FRAME = -1


@cache
def get_swap_page(k: Kernel) -> Op:
    """`get_swap_page()`: a swap entry for a free slot, held by the cache; 0 if swap is full."""
    cells = [k.swap_map(slot) for slot in range(1, k.config.slots + 1)]

    def perform(world: World) -> tuple[World, int]:
        for slot in range(1, k.config.slots + 1):
            if not world[k.swap_map(slot)]:
                return put(world, k.swap_map(slot), SWAP_HAS_CACHE), swp_entry(0, slot)
        return world, 0

    return Op("get_swap_page", perform, writes=cells)


@cache
def swap_duplicate(k: Kernel, entry: int) -> Op:
    """`swap_duplicate()`: one pte more holds the slot. A purged marker is no slot: nothing happens."""
    if non_swap_entry(entry):
        return Op("swap_duplicate(not a slot)", lambda world: (world, None))
    cell = k.swap_map(swp_offset(entry))
    return Op(
        f"swap_duplicate(slot {swp_offset(entry)})",
        lambda world: (put(world, cell, world[cell] + 1), None),
        writes=(cell,),
    )


@cache
def swap_entry_free(k: Kernel, entry: int, usage: int = 1) -> Op:
    """`swap_free()`, `swapcache_free()`: one pte, or the cache, lets the slot go; answers what is left."""
    cell = k.swap_map(swp_offset(entry))

    def perform(world: World) -> tuple[World, int]:
        left = world[cell] - usage
        if left < 0:
            raise KernelBug(f"swap_free: slot {swp_offset(entry)} is not in use")
        return put(world, cell, left), left

    label = "swapcache_free" if usage == SWAP_HAS_CACHE else "swap_free"
    return Op(f"{label}(slot {swp_offset(entry)})", perform, writes=(cell,))


@cache
def page_swapcount(k: Kernel, page: int) -> Op:
    """`page_swapcount()`: how many ptes hold the slot of a page in the swap cache."""

    def slot_of(world: World) -> int:
        return k.swap_map(swp_offset(world[k.private(page)]))

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        return frozenset((k.private(page), slot_of(world))), frozenset()

    return Op(
        f"page_swapcount(page {page})",
        lambda world: (world, world[slot_of(world)] & ~SWAP_HAS_CACHE),
        footprint=footprint,
    )


@cache
def lookup_swap_cache(k: Kernel, entry: int) -> Op:
    """`lookup_swap_cache()`, `find_get_page()` on the swap cache: the page with a reference, or 0.

    `__remove_mapping` freezes a page and takes it out under one hold of tree_lock. Whoever looks meanwhile gets no
    reference (`page_cache_get_speculative`) and looks again until the page is out: here the step waits. Answering 0
    would send the fault on to VM_FAULT_OOM.
    """
    cell = k.swap_page(swp_offset(entry))

    def ready(world: World) -> bool:
        return not world[cell] or bool(world[k.count(world[cell])])

    def perform(world: World) -> tuple[World, int]:
        page = world[cell]
        if not page:
            return world, 0
        return put(world, k.count(page), world[k.count(page)] + 1), page

    def footprint(world: World) -> tuple[frozenset[int], frozenset[int]]:
        page = world[cell]
        if not page:
            return frozenset((cell,)), frozenset()
        return frozenset((cell, k.count(page))), frozenset((k.count(page),))

    return Op(f"lookup_swap_cache(slot {swp_offset(entry)})", perform, ready=ready, footprint=footprint)


@cache
def swapcache_prepare(k: Kernel, entry: int) -> Op:
    """`swapcache_prepare()`: claims the slot for the cache. "claimed", "gone" (ENOENT) or "there" (EEXIST).

    While another claims or gives up the slot the kernel spins; here the step waits until there is news.
    """
    cell, cached = k.swap_map(swp_offset(entry)), k.swap_page(swp_offset(entry))

    def perform(world: World) -> tuple[World, str]:
        usage = world[cell]
        if not usage:
            return world, "gone"
        if usage & SWAP_HAS_CACHE:
            return world, "there"
        return put(world, cell, usage | SWAP_HAS_CACHE), "claimed"

    return Op(
        f"swapcache_prepare(slot {swp_offset(entry)})",
        perform,
        reads=(cached,),
        writes=(cell,),
        ready=lambda world: not world[cell] & SWAP_HAS_CACHE or bool(world[cached]),
    )


@cache
def add_to_swap_cache(k: Kernel, page: int, entry: int) -> Op:
    """`__add_to_swap_cache()`, the page locked: a reference, PG_swapcache, page->private."""
    cached = k.swap_page(swp_offset(entry))

    def perform(world: World) -> tuple[World, None]:
        return (
            puts(
                world,
                (k.count(page), world[k.count(page)] + 1),
                (k.flags(page), world[k.flags(page)] | PG_swapcache),
                (k.private(page), entry),
                (cached, page),
            ),
            None,
        )

    return Op(
        f"add_to_swap_cache(page {page}, slot {swp_offset(entry)})",
        perform,
        writes=(k.count(page), k.flags(page), k.private(page), cached),
    )


@cache
def remove_from_swap_cache(k: Kernel, page: int, entry: int) -> Op:
    """`__delete_from_swap_cache()`, under tree_lock."""
    cached = k.swap_page(swp_offset(entry))

    def perform(world: World) -> tuple[World, None]:
        if world[cached] != page:
            raise KernelBug(f"__delete_from_swap_cache: page {page} is not in the swap cache")
        return (
            puts(
                world,
                (k.flags(page), world[k.flags(page)] & ~PG_swapcache),
                (k.private(page), 0),
                (cached, 0),
            ),
            None,
        )

    return Op(
        f"__delete_from_swap_cache(page {page})",
        perform,
        writes=(k.flags(page), k.private(page), cached),
    )


@cache
def swap_io(k: Kernel, page: int, slot: int, write: bool) -> Op:
    """The device: copies the page to the slot or the slot to the page."""
    data, store = k.data(page), k.swap_data(slot)
    if write:
        return Op(
            f"write page {page} to slot {slot}",
            lambda world: (put(world, store, world[data]), None),
            reads=(data,),
            writes=(store,),
        )
    return Op(
        f"read slot {slot} into page {page}",
        lambda world: (put(world, data, world[store]), None),
        reads=(store,),
        writes=(data,),
    )


def page_private(k: Kernel, page: int) -> Op:
    """`page_private()`: the swap entry."""
    return read(f"page_private(page {page})", k.private(page))


def add_to_swap(k: Kernel, page: int) -> Steps[bool]:
    """`add_to_swap()`, the page locked: False if swap is full."""
    entry = yield get_swap_page(k)
    if not entry:
        return False
    yield add_to_swap_cache(k, page, entry)
    yield change_flags(k, page, "SetPageDirty", PG_dirty)
    return True


def delete_from_swap_cache(k: Kernel, page: int) -> Steps[None]:
    """`delete_from_swap_cache()`, the page locked."""
    entry = yield page_private(k, page)
    yield remove_from_swap_cache(k, page, entry)
    yield swap_entry_free(k, entry, SWAP_HAS_CACHE)
    yield page_cache_release(k, page)


def try_to_free_swap(k: Kernel, page: int) -> Steps[bool]:
    """`try_to_free_swap()`, the page locked: takes it out of the swap cache unless a pte holds the slot."""
    cached = yield from _cached_and_written(k, page)
    if not cached:
        return False
    holders = yield page_swapcount(k, page)
    if holders:
        return False
    yield from delete_from_swap_cache(k, page)
    yield change_flags(k, page, "SetPageDirty", PG_dirty)
    return True


def reuse_swap_page(k: Kernel, page: int) -> Steps[bool]:
    """`reuse_swap_page()`, the page locked: whether a write may go to this page, nobody else having it."""
    count = yield page_mapped(k, page)
    if count > 1:
        return False
    flags = yield read_flags(k, page, "PageSwapCache")
    if not flags & PG_swapcache:
        return True
    holders = yield page_swapcount(k, page)
    if count + holders == 1:
        flags = yield read_flags(k, page, "PageWriteback")
        if not flags & PG_writeback:
            yield from delete_from_swap_cache(k, page)
            yield change_flags(k, page, "SetPageDirty", PG_dirty)
    return bool(count + holders <= 1)


def free_swap_and_cache(k: Kernel, entry: int) -> Steps[None]:
    """`free_swap_and_cache()`: a pte that held the slot is zapped. A purged marker is no slot: nothing happens."""
    if non_swap_entry(entry):
        return
    left = yield swap_entry_free(k, entry)
    if left != SWAP_HAS_CACHE:
        return
    page = yield lookup_swap_cache(k, entry)
    if not page:
        return
    locked = yield trylock_page(k, page)
    if locked:
        cached = yield from _cached_and_written(k, page)
        mapped = 0
        if cached:
            mapped = yield page_mapped(k, page)
        if cached and not mapped:
            yield from delete_from_swap_cache(k, page)
            yield change_flags(k, page, "SetPageDirty", PG_dirty)
        yield unlock_page(k, page)
    yield page_cache_release(k, page)


def _cached_and_written(k: Kernel, page: int) -> Steps[bool]:
    """``PageSwapCache(page) && !PageWriteback(page)``, two looks."""
    flags = yield read_flags(k, page, "PageSwapCache")
    if not flags & PG_swapcache:
        return False
    flags = yield read_flags(k, page, "PageWriteback")
    return not flags & PG_writeback


def swap_writepage(k: Kernel, page: int) -> Steps[None]:
    """`swap_writepage()` on a device that completes at once, such as zram; unlocks the page."""
    freed = yield from try_to_free_swap(k, page)
    if freed:
        yield unlock_page(k, page)
        return
    entry = yield page_private(k, page)
    yield change_flags(k, page, "set_page_writeback", PG_writeback)
    yield unlock_page(k, page)
    yield swap_io(k, page, swp_offset(entry), True)
    yield change_flags(k, page, "end_page_writeback", 0, PG_writeback)


def read_swap_cache_async(k: Kernel, entry: int) -> Steps[int]:
    """`read_swap_cache_async()`: the page for a slot, in the swap cache and with a reference; 0 if the slot is gone
    by now, NO_FRAME if there is no page to read it into. A page allocated once is kept while it looks again."""
    new = 0
    while True:
        page = yield lookup_swap_cache(k, entry)
        if page:
            break
        if not new:
            new = yield alloc_page(k)
            if not new:
                return NO_FRAME
        claim = yield swapcache_prepare(k, entry)
        if claim == "claimed":
            yield lock_page(k, new)
            yield add_to_swap_cache(k, new, entry)
            yield lru_cache_add(k, new, PG_swapbacked)
            yield swap_io(k, new, swp_offset(entry), False)
            yield change_flags(k, new, "SetPageUptodate", PG_uptodate)
            yield unlock_page(k, new)
            return int(new)
        if claim == "gone":
            break
        del claim, page
    if new:
        yield page_cache_release(k, new)
    return int(page)
