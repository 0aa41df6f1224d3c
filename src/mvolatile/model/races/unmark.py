"""Unmark against purge: is every loss told?"""

from __future__ import annotations

from typing import Any

from ..litmus import Litmus, reclaimer, shared_volatile, unmark, volatile_pages
from ..state import Kernel
from ..steps import Steps
from ..user import load


def _unmark_then_load(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 0)
    value = yield from load(k, 0, 0)
    return ret, value


def _child_unmarks(k: Kernel) -> Steps[tuple[Any, Any]]:
    ret = yield from unmark(k, 1)
    value = yield from load(k, 1, 0)
    return ret, value


RACES = (
    Litmus(
        "unmark_against_purge",
        "no_lost_report",
        "try_to_purge_vpage has read VM_VOLATILE; the unmark clears it and finds no marker; then the pte is purged",
        volatile_pages,
        {"cpu0": _unmark_then_load, "kswapd": reclaimer},
    ),
    Litmus(
        "unmark_of_a_sharer_against_purge",
        "all_sharers_or_none",
        "the child unmarks while the purge is between the parent's pte and the child's",
        shared_volatile,
        {"cpu0": _child_unmarks, "kswapd": reclaimer},
    ),
)
