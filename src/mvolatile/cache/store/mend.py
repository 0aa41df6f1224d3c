"""Order after disorder: a change was cut short by `KeyboardInterrupt`, or left behind in its thread by a fork."""

from __future__ import annotations

from contextlib import suppress

from .locator import region_of
from .segment import Segment
from .store import Store

__all__ = ["mend"]


def mend(store: Store) -> None:
    """Recount, and put every region in order."""
    regions = store.regions
    for queue, segment in list(store.open.items()):
        if not segment.is_open or segment.number not in regions:
            del store.open[queue]
    open_ones = list(store.open.values())
    for region in list(regions.values()):
        if isinstance(region, Segment):
            region.mend()
            if region not in open_ones:
                region.seal()
        regions.register(region)
    tables = store.lookup.tables
    for number in set(tables) - set(regions):
        del tables[number]
    dangling = {region_of(locator) for locator in store.index.values()} - set(regions)
    dangling -= {job[0].number for job in store.dropped}
    if dangling:
        for key, locator in list(store.index.items()):
            if region_of(locator) in dangling:
                with suppress(Exception):  # a key that its owner has changed, or broken
                    store.evict(key)
    regions.recount()
