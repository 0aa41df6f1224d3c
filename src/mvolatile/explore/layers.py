"""Breadth first, one step deeper with each layer: bounds are exact here, and what is found first is shortest.

Depth first with remembered states cannot be bounded: a state first met at the end of a long schedule would be
left unexpanded, and missed when a shorter one leads to it again. By layers each state is met first with the
fewest steps. Preemptions depend on who ran last, so with them a place in the search is (state, last
actor), and it is entered anew when a longer schedule gets there with fewer preemptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from .schedule import Move, located, move_at
from .system import Step, System
from .tally import Tally

__all__ = ["search_layers"]

Place = tuple[Any, str | None]
Chain = tuple[Any, Sequence[Step], int] | None
"""How a place was reached: the chain before, the steps that were enabled, which of them was taken."""


def search_layers(
    system: System[Any],
    tally: Tally,
    *,
    steps: int | None = None,
    preemptions: int | None = None,
    count_preemptions: bool = False,
) -> None:
    """Search all schedules within the bounds.

    Of the shortest schedules to a violation, the one with the fewest preemptions is noted (if preemptions are
    bounded or to be counted).
    """
    counting = count_preemptions or preemptions is not None
    start = system.initial()
    fewest: dict[Place, int] = {(start, None): 0}
    layer: dict[Place, tuple[int, Chain]] = {(start, None): (0, None)}
    depth = 0
    chain: Chain = None
    with located(lambda: _moves(chain)):
        while layer:
            below: dict[Place, tuple[int, Chain]] = {}
            wrong: list[tuple[int, tuple[str, ...], Chain]] = []
            for (state, last), (cost, chain) in layer.items():
                enabled = system.enabled(state)
                findings = tally.inspect(state, enabled)
                if findings:
                    wrong.append((cost, findings, chain))
                if not enabled:
                    tally.executions += 1
                    continue
                if depth == steps:
                    tally.cut += 1
                    continue
                could_go_on = counting and any(step.actor == last for step in enabled)
                for at, step in enumerate(enabled):
                    price = cost + (could_go_on and step.actor != last)
                    if preemptions is not None and price > preemptions:
                        tally.cut += 1
                        continue
                    place = (system.apply(state, step), step.actor if counting else None)
                    tally.steps += 1
                    if price < fewest.get(place, price + 1):
                        fewest[place] = price
                        below[place] = (price, (chain, enabled, at))
                    else:
                        tally.executions += 1
                if tally.pause():
                    return
            for _, findings, reached in sorted(wrong, key=lambda found: found[0]):
                if tally.note(findings, partial(_moves, reached)):
                    return
            layer = below
            depth += 1


def _moves(chain: Chain) -> list[Move]:
    moves: list[Move] = []
    while chain is not None:
        chain, enabled, at = chain
        moves.append(move_at(enabled, at))
    return moves[::-1]
