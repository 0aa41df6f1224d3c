"""What must hold: one named function for each property, over a state and the way it came about.

The ghost cells remember what went wrong, so a wrong that a step did is seen in every later state; a search that looks
at final states alone misses nothing. The exact accounts are asked for when every thread has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from .pgtable import non_swap_entry, pte_pfn, pte_present, pte_to_swp_entry, swp_offset
from .state import (
    BAD_DATA,
    BAD_PAGE,
    FALSE_OOM,
    FALSE_REPORT,
    HALF_PURGED,
    LOST_REPORT,
    NR_LRU_LISTS,
    PURGED_NONVOLATILE,
    SIGBUS_UNPURGED,
    STALE_SECONDARY,
    STARVED,
    SWAP_HAS_CACHE,
    WASTED,
    ZERO_PAGE,
    Kernel,
    PG_lru,
    PG_swapcache,
    World,
)

Property = Callable[[Kernel, World, bool], str | None]
"""Asked of (kernel, world, whether every thread has ended): what is wrong, or None."""


def _virtual_pages(k: Kernel) -> list[tuple[int, int]]:
    return [(mm, address) for mm in range(k.config.processes) for address in range(k.config.addresses)]


def _on_virtual_page(k: Kernel, world: World, *sins: tuple[int, str]) -> str | None:
    for mm, address in _virtual_pages(k):
        for bit, message in sins:
            if world[k.wrong(mm, address)] & bit:
                return f"mm{mm} page {address}: {message}"
    return None


def _on_page(k: Kernel, world: World, bit: int, message: str) -> str | None:
    for page in range(1, k.config.frames + 1):
        if world[k.page_wrong(page)] & bit:
            return f"page {page} {message}"
    return None


def no_false_sigbus(k: Kernel, world: World, done: bool) -> str | None:
    """No SIGBUS for a page that was not purged, or whose purge had been reported."""
    return _on_virtual_page(k, world, (SIGBUS_UNPURGED, "SIGBUS, and the page was not purged"))


def no_wrong_data(k: Kernel, world: World, done: bool) -> str | None:
    """No silent zeros and no stale data: a load gives what was last stored, unless the loss was reported."""
    return _on_virtual_page(k, world, (BAD_DATA, "a load or store went through with wrong data"))


def no_lost_report(k: Kernel, world: World, done: bool) -> str | None:
    """Every purge of volatile memory is reported by the unmark that ends its volatility; nothing else is purged."""
    return _on_virtual_page(
        k,
        world,
        (LOST_REPORT, "purged, and the unmark said that nothing was"),
        (PURGED_NONVOLATILE, "purged while the program held it non-volatile"),
    )


def no_false_report(k: Kernel, world: World, done: bool) -> str | None:
    """An unmark reports a purge only if there was one since the last report."""
    return _on_virtual_page(k, world, (FALSE_REPORT, "reported as purged, and nothing was purged"))


def all_sharers_or_none(k: Kernel, world: World, done: bool) -> str | None:
    """A purge takes a page from all processes that have it, or from none."""
    return _on_page(k, world, HALF_PURGED, "was purged from one process and is still held by another")


def no_starvation(k: Kernel, world: World, done: bool) -> str | None:
    """No page starves reclaim: a scan that keeps a page leaves something that a later scan can decide otherwise."""
    return _on_page(
        k, world, STARVED, "was kept by a failed purge, and every later scan must end the same way"
    )


def no_wasted_purge(k: Kernel, world: World, done: bool) -> str | None:
    """A purge that leaves the page to the swap cache alone frees it, and its slot."""
    return _on_page(k, world, WASTED, "was purged, nobody but the swap cache has it, and it was kept")


def no_false_oom(k: Kernel, world: World, done: bool) -> str | None:
    """A fault ends in VM_FAULT_OOM only if something that it asked for was not to be had."""
    return _on_virtual_page(k, world, (FALSE_OOM, "out of memory, and nothing was refused"))


def no_stale_secondary(k: Kernel, world: World, done: bool) -> str | None:
    """A secondary mapping never outlives its page, nor the primary mapping that it was made from."""
    return _on_virtual_page(
        k, world, (STALE_SECONDARY, "a secondary mapping disagrees with the primary one")
    ) or _on_page(k, world, STALE_SECONDARY, "was freed while a secondary mapping used it")


def exact_accounting(k: Kernel, world: World, done: bool) -> str | None:
    """Swap slots, references, mapcounts, rss, hiwater and the LRU lists are exact when everybody is done."""
    return _on_page(k, world, BAD_PAGE, "was freed or unmapped in a bad state") or (
        _books(k, world) if done else None
    )


def _books(k: Kernel, world: World) -> str | None:
    ptes = {(mm, address): world[k.pte(mm, address)] for mm, address in _virtual_pages(k)}
    mapped = [
        (mm, k.page(pte_pfn(pte)))
        for (mm, _), pte in ptes.items()
        if pte_present(pte) and k.page(pte_pfn(pte)) != ZERO_PAGE
    ]
    swapped = [
        (mm, swp_offset(pte_to_swp_entry(pte)))
        for (mm, _), pte in ptes.items()
        if pte and not pte_present(pte) and not non_swap_entry(pte_to_swp_entry(pte))
    ]
    for page in range(1, k.config.frames + 1):
        wrong = _page_books(k, world, page, sum(1 for _, at in mapped if at == page))
        if wrong:
            return f"page {page}: {wrong}"
    for slot in range(1, k.config.slots + 1):
        usage = world[k.swap_map(slot)]
        cache = SWAP_HAS_CACHE if world[k.swap_page(slot)] else 0
        want = sum(1 for _, at in swapped if at == slot) | cache
        if usage != want:
            return f"slot {slot}: swap_map is {usage:#x}, and {want:#x} would be right"
    for mm in range(k.config.processes):
        wrong = _process_books(
            k, world, mm, sum(1 for at, _ in mapped if at == mm), sum(1 for at, _ in swapped if at == mm)
        )
        if wrong:
            return f"mm{mm}: {wrong}"
    return None


def _page_books(k: Kernel, world: World, page: int, mapped: int) -> str | None:
    count, flags = world[k.count(page)], world[k.flags(page)]
    want = mapped + bool(flags & PG_swapcache) + world[k.pins(page)]
    free = page in world[k.free_pages]
    lists = sum(world[k.lru(lst)].count(page) for lst in range(NR_LRU_LISTS))
    if world[k.mapcount(page)] != mapped:
        return f"_mapcount is {world[k.mapcount(page)]}, and {mapped} ptes map it"
    if count != want:
        return f"_count is {count}, and {want} would be right"
    if free != (count == 0):
        return "it is free and in use" if free else "it is lost: not free, and nobody holds it"
    if lists != bool(flags & PG_lru):
        return f"it is on {lists} LRU lists"
    if not free and not lists:
        return "it is in use and on no LRU list"
    return "its lock was left" if world[k.page_lock(page)] else None


def _process_books(k: Kernel, world: World, mm: int, mapped: int, swapped: int) -> str | None:
    rss, swapents = world[k.anon_rss(mm)], world[k.swapents(mm)]
    if rss != mapped:
        return f"MM_ANONPAGES is {rss}, and {mapped} would be right"
    if swapents != swapped:
        return f"MM_SWAPENTS is {swapents}, and {swapped} would be right"
    peak = max(rss, world[k.hiwater(mm)])
    if peak != world[k.max_rss(mm)]:
        return f"hiwater_rss is {peak}, and {world[k.max_rss(mm)]} would be right"
    if world[k.ptl(mm)] or world[k.mmap_sem(mm)]:
        return "a lock was left"
    return None


PROPERTIES: dict[str, Property] = {
    check.__name__: check
    for check in (
        no_false_sigbus,
        no_wrong_data,
        no_lost_report,
        no_false_report,
        all_sharers_or_none,
        no_starvation,
        no_wasted_purge,
        no_false_oom,
        no_stale_secondary,
        exact_accounting,
    )
}

NO_KERNEL_BUG = "no_kernel_bug"
"""Also a property, found by the step that would crash: no BUG_ON, NULL dereference, use after free, out of bounds."""

NO_DEADLOCK = "deadlock"
"""Also a property, found by the explorer: nobody waits for ever."""


def check(k: Kernel, names: tuple[str, ...], world: World, done: bool) -> tuple[str, ...]:
    """Which of the named properties do not hold, each as ``"name: message"``."""
    return tuple(
        f"{name}: {message}"
        for name in names
        if name in PROPERTIES and (message := PROPERTIES[name](k, world, done))
    )
