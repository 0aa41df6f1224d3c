"""Secondary mappings (mmu notifier)."""

from __future__ import annotations

from typing import Any

from ..litmus import Litmus, reclaimer, unmark, volatile_pages
from ..state import Kernel
from ..steps import Steps
from ..user import map_in_secondary, store


def _secondary_mapped(k: Kernel) -> Steps[None]:
    yield from volatile_pages(k)
    yield from map_in_secondary(k, 0, 0)


def _unmark_and_refill(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from store(k, 0, 0, 9)
    return ret, value


def _secondary_fault(k: Kernel) -> Steps[int]:
    return (yield from map_in_secondary(k, 0, 0))


RACES = (
    Litmus(
        "secondary_mapping_outlives",
        "no_stale_secondary",
        "the secondary MMU still maps the purged page when the program has unmarked and filled a new one",
        _secondary_mapped,
        {"cpu0": _unmark_and_refill, "kswapd": reclaimer},
    ),
    Litmus(
        "secondary_fault_against_purge",
        "no_stale_secondary",
        "the secondary MMU faults the page in while it is purged",
        volatile_pages,
        {"cpu0": _secondary_fault, "kswapd": reclaimer},
    ),
)
