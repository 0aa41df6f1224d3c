"""Which values go. A policy is a file here and a line in `POLICIES`; `policy.py` has its contract.

The map::

    policy.py      the interface          evictor.py     carries a policy out on a store
    tinylfu.py     W-TinyLFU              miniature.py   how large its window may be
    sieve.py       SIEVE                  clock.py       CLOCK
    simulated.py   a policy on numbers alone

What W-TinyLFU decides for each value is in C: `_core/cache/tinylfu.c`, and the files that `eviction.h` names.
"""

from __future__ import annotations

from collections.abc import Callable

from .clock import Clock
from .evictor import Evictor
from .policy import Figures, Policy
from .sieve import Sieve
from .tinylfu import WindowTinyLFU

__all__ = ["DEFAULT", "POLICIES", "Evictor", "Figures", "Policy", "make_policy"]

POLICIES: dict[str, Callable[[Figures], Policy]] = {
    "sieve": Sieve,
    "clock": Clock,
    "tinylfu": WindowTinyLFU,
}
DEFAULT = "tinylfu"
"""What caches use."""


def make_policy(figures: Figures) -> Policy:
    """For a new cache."""
    return POLICIES[DEFAULT](figures)
