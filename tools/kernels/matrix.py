"""The conditions that decide how the kernel reclaims, and a small set of cells that covers every pair of them."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, fields

__all__ = ["AXES", "Cell", "covering"]

AXES = {
    "cgroup": ("v2", "v1"),
    "swap": ("none", "zram"),
    "mglru": ("on", "off"),
    "thp": ("always", "madvise", "never"),
    "tier": ("userfaultfd", "faultcount"),
    "user": ("user", "root"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of conditions; the fields are the keys of `AXES`."""

    cgroup: str
    swap: str
    mglru: str
    thp: str
    tier: str
    user: str

    def __str__(self) -> str:
        return "-".join(self.values())

    def values(self) -> tuple[str, ...]:
        """The conditions in the order of `AXES`."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def as_dict(self) -> dict[str, str]:
        """For JSON and for the kernel's command line."""
        return asdict(self)

    def pairs(self) -> set[tuple[tuple[str, str], tuple[str, str]]]:
        """Every two conditions that meet here."""
        return set(itertools.combinations(self.as_dict().items(), 2))


def covering(without: frozenset[str] = frozenset()) -> list[Cell]:
    """Cells in which any two conditions meet at least once, leaving out values that a kernel does not have.

    Greedy, so that the first cells cover most. The whole product is 96 boots per kernel. What two conditions do
    to each other shows in these; a fault that needs three at once can hide.
    """
    choices = [[value for value in values if value not in without] for values in AXES.values()]
    product = [Cell(*values) for values in itertools.product(*choices)]
    missing = set().union(*(cell.pairs() for cell in product))
    chosen: list[Cell] = []
    while missing:
        best = max(product, key=lambda cell: len(cell.pairs() & missing))
        chosen.append(best)
        missing -= best.pairs()
    return chosen
