"""What must hold, each property a named function; and the ghost steps at which a history is asked.

The ghost `gone` of a page is set where reclaim takes its data and cleared where the loss is made good: rebuilt,
overwritten or forgiven. Nothing of the library looks at it. A property that fails is an `AssertionError` with its name,
raised by the step at which the program would have been told wrong. Deadlocks are the explorer's own finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from ..steps import Op, puts
from .machine import USERFAULTFD, Task, World

PROPERTIES: Final = (
    "no_lost_report",
    "no_false_loss",
    "pin_reads_whole",
    "peek_reads_whole",
    "no_silent_zeros",
    "no_stray_sigbus",
    "no_foreign_repair",
    "deadlock",
)


def no_lost_report(gone: int, lost: int) -> str | None:
    """Every purged page is told to every later pin, until the loss is made good."""
    missed = gone & ~lost
    return f"pages {missed:#b} were purged, and a pin calls them whole" if missed else None


def no_false_loss(gone: int, lost: int) -> str | None:
    """What is called lost was purged. In the faultcount tier a doubt counts as a loss."""
    false = lost & ~gone
    return f"pages {false:#b} are called lost, and are whole" if false else None


def pin_reads_whole(values: Sequence[int]) -> str | None:
    """What a pin reads that was told of no loss is one version of the data, and not zeros."""
    return _whole(values)


def peek_reads_whole(values: Sequence[int]) -> str | None:
    """What a peek read that ended well is one version of the data: nothing of before and after a purge, a write or a
    rebuild."""
    return _whole(values)


def no_silent_zeros(values: Sequence[int]) -> str | None:
    """Where data was, a child that was told of no loss reads no zeros."""
    return f"reads {tuple(values)}, and nobody says so" if 0 in values else None


def no_foreign_repair(owner: int | None, r: int) -> str | None:
    """A trap fills pages of the range it was taken for, and of no other."""
    return None if owner == r else f"a trap on range {r} fills a page that is range {owner}'s"


def _whole(values: Sequence[int]) -> str | None:
    return f"reads {tuple(values)}" if len(set(values)) > 1 or 0 in values else None


def must(name: str, wrong: str | None) -> None:
    """Raise what is wrong as a violation of the property."""
    if wrong is not None:
        raise AssertionError(f"{name}: {wrong}")


@cache
def report(t: Task, lost: int, pages: int, held: bool) -> Op:
    """Ghost: of `pages` these `lost` are told to the program; all of them, if the program holds the range."""
    cells = [t.cell("gone", page) for page in range(t.m.config.pages)]

    def perform(world: World) -> tuple[World, None]:
        gone = sum(1 << page for page, cell in enumerate(cells) if world[cell]) & pages
        if held:
            must("no_lost_report", no_lost_report(gone, lost))
        if t.tier == USERFAULTFD:
            must("no_false_loss", no_false_loss(gone, lost))
        return world, None

    return Op(f"tell that {lost:#b} is lost", perform, reads=[cells[page] for page in t.m.pages_in(pages)])


@cache
def made_good(t: Task, pages: int) -> Op:
    """Ghost: what was purged of these pages is made good."""
    cells = [t.cell("gone", page) for page in t.m.pages_in(pages)]
    return Op(
        "the loss is made good",
        lambda world: (puts(world, *((cell, False) for cell in cells)), None),
        writes=cells,
    )
