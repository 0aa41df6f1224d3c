"""Does a system keep to the rules that the engine relies on?"""

from __future__ import annotations

from typing import Any

from ..errors import NondeterminismError
from .engine import explore
from .exhaustive import Exhaustive
from .result import Result
from .system import Repeatable, System
from .threads import ThreadedSystem

__all__ = ["check_merging", "check_reduction"]


def check_merging(system: ThreadedSystem[Any]) -> tuple[Result, Result]:
    """Explore with threads' local states merged and not merged, and compare.

    `NondeterminismError` if the two differ in what is violated or in the final worlds and outcomes: then some
    thread keeps state that its local values do not show. For programs without loops that may spin (without
    merging these never end). Both results are returned, the merged one first.
    """
    merged, unmerged = system.fresh(merge=True), system.fresh(merge=False)
    return _compare(merged, Exhaustive(), unmerged, Exhaustive(), "merging local states")


def check_reduction(system: System[Any]) -> tuple[Result, Result]:
    """Explore with and without partial-order reduction, and compare.

    `NondeterminismError` if the two differ in what is violated or in the final states: then some step touches
    a location that it does not name, or `check` looks at one that `watches` does not name. Both results are
    returned, the reduced one first.
    """
    return _compare(system, Exhaustive(), system, Exhaustive(reduce=False), "the reduction")


def _compare(
    one: System[Any], one_way: Exhaustive, two: System[Any], two_way: Exhaustive, what: str
) -> tuple[Result, Result]:
    first = explore(one, one_way, stop_at_first=False)
    second = explore(two, two_way, stop_at_first=False)
    if first.properties != second.properties:
        differ = ", ".join(sorted(first.properties ^ second.properties))
        raise NondeterminismError(f"with {what} and without it, {differ} was not violated alike")
    extra, missing = _finals(one, first) - _finals(two, second), _finals(two, second) - _finals(one, first)
    if extra or missing:
        example = next(iter(extra or missing))
        verb = "has" if extra else "misses"
        raise NondeterminismError(f"the search with {what} {verb} the final state {example!r}")
    return first, second


def _finals(system: System[Any], result: Result) -> set[Any]:
    return (
        {system.view(state) for state in result.finals}
        if isinstance(system, Repeatable)
        else set(result.finals)
    )
