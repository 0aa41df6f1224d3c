"""How many interleavings there are, without running them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .system import System

__all__ = ["count_interleavings"]


def count_interleavings(system: System[Any]) -> int:
    """The exact number of complete schedules of a system: paths from its initial to its final
    states, deadlocks included.

    Counted by dynamic programming over the state graph, so that each state is expanded once, however many the
    schedules. `ValueError` if a loop makes them infinitely many.
    """
    count: dict[Any, int] = {}
    open_states: set[Any] = set()

    def successors(state: Any) -> Iterator[Any]:
        open_states.add(state)
        return iter([system.apply(state, step) for step in system.enabled(state)])

    start = system.initial()
    stack: list[tuple[Any, Iterator[Any], list[Any]]] = [(start, successors(start), [])]
    while stack:
        state, rest, reached = stack[-1]
        for after in rest:
            if after in open_states:
                raise ValueError("a loop makes the interleavings infinitely many")
            reached.append(after)
            if after not in count:
                stack.append((after, successors(after), []))
                break
        else:
            stack.pop()
            open_states.remove(state)
            count[state] = sum(count[after] for after in reached) if reached else 1
    return count[start]
