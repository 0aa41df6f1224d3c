"""Where stock Linux and the library may differ from the patch: every case, its reason, and when it is allowed.

A difference is counted each time it is met (`Tally`), and nothing else may differ. docs/conformance.md has the table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a page, or of the pages of a call, when the two sides differ."""

    tier: str
    lazy: bool = True
    """The kernel was told to free it lazily after it was last written."""
    sharers: int = 1
    marked_shared: bool = False
    """It was shared with another process when it was last marked."""
    lost: bool = False
    remapped: bool = False
    """The page was mapped anew, behind the library's back, since it was marked."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the real side may depart from the model: `where` it shows, `when`, and why that is right."""

    name: str
    where: str
    reason: str
    when: Callable[[Situation], bool]


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "written since the mark",
        "not purged",
        "MADV_FREE takes pages as they are: a write cancels it for that page until the next mark. The patch may purge "
        "any page of a volatile range, and never must.",
        lambda s: not s.lazy,
    ),
    Difference(
        "shared",
        "not purged",
        "MADV_PAGEOUT leaves pages alone that several processes map; reclaim under pressure does not.",
        lambda s: s.sharers > 1,
    ),
    Difference(
        "marked while shared",
        "not purged",
        "MADV_FREE passes over a page that is dirty and mapped by several processes. It can go after the next mark.",
        lambda s: s.marked_shared,
    ),
    Difference(
        "unmarking unshares",
        "unmarked",
        "MADV_POPULATE_WRITE makes each page writable, so one shared after a fork is copied at the "
        "unmark; in the patch at the next write.",
        lambda s: s.sharers > 1,
    ),
    Difference(
        "reads zeros",
        "read",
        "Nothing traps without userfaultfd: a purged page reads as zeros, and the unmark still tells.",
        lambda s: s.tier == "faultcount" and s.lost,
    ),
    Difference(
        "write revives",
        "written",
        "Nothing traps without userfaultfd: a write to a purged page that was not unmarked goes to a fresh "
        "page of zeros, and the loss of what was there before is not told.",
        lambda s: s.tier == "faultcount" and s.lost,
    ),
    Difference(
        "zeros purged",
        "zeros purged",
        "A lost page of a VolatileMemory may get a page of zeros of its own, which can be purged like any data; in the "
        "patch it is empty until it is written to.",
        lambda s: s.lost,
    ),
    Difference(
        "zeros purged, counted",
        "generation",
        "Such a purge is found like any other, and the generation grows, though the report of the page stands already.",
        lambda s: s.lost,
    ),
    Difference(
        "remapped, reported lost",
        "reported",
        "Without userfaultfd a page of memory that was mapped anew behind the library's back cannot be told "
        "from a purged one: the next unmark may report it. It never fails to report a loss.",
        lambda s: s.tier == "faultcount" and s.remapped,
    ),
)


class Divergence(AssertionError):  # noqa: N818 - what the tests look for
    """The real side did what neither the model nor a difference allows."""


@dataclass(slots=True)
class Tally:
    """What was run, what was met on the way, and which differences."""

    programs: Counter[str] = field(default_factory=Counter)
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    differences: Counter[tuple[str, str]] = field(default_factory=Counter)
    different: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By tier: the programs that agreed to their end, as text, so that one that came twice counts once."""
    disturbed: Counter[str] = field(default_factory=Counter)
    """Programs that were thrown away, because reclaim or swap that nobody asked for came into them."""

    def agreed(self, tier: str, program: str) -> None:
        """A program has run to its end on both sides."""
        self.different[tier].add(program)

    def allow(self, where: str, situation: Situation) -> bool:
        """Whether a difference explains it; the first that does is counted."""
        for difference in DIFFERENCES:
            if difference.where == where and difference.when(situation):
                self.differences[situation.tier, difference.name] += 1
                return True
        return False

    def require(self, where: str, situation: Situation, message: str) -> None:
        """`Divergence` unless a difference explains it."""
        if not self.allow(where, situation):
            raise Divergence(message)

    def table(self) -> str:
        """In words, for whoever runs the long form."""
        lines = [
            f"{tier}: {count} programs, {len(self.different[tier])} different ones agreed, "
            f"{self.disturbed[tier]} disturbed and thrown away"
            for tier, count in sorted(self.programs.items())
        ]
        for title, counter in (
            ("operations", self.operations),
            ("met", self.met),
            ("allowed differences", self.differences),
        ):
            for tier in sorted(self.programs):
                mine = {name: count for (at, name), count in sorted(counter.items()) if at == tier}
                shown = ", ".join(f"{name} {count}" for name, count in mine.items())
                lines.append(f"{tier}: {title}: {sum(mine.values())}: {shown}")
        return "\n".join(lines)
