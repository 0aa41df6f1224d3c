"""A plain store in one call: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.put import Broken, World, check, races, switches

FOUND_IN = {
    "lock_unasked": ("sealed", "held"),
    "seen_before": ("sealed", "held"),
    "left_armed": ("sealed", "held"),
    "calls_unasked": ("made", "newest"),
    "stale_unasked": ("made", "newest"),
    "forks_unasked": ("a child", "own"),
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    daemons = tuple(name for name in programs if name == "left")
    return ThreadedSystem(World(), programs, daemons=daemons, check=check)


@pytest.mark.parametrize("race", races())
def test_every_interleaving_is_right(race: str) -> None:
    result = explore(system(race, Broken()))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize("switch", switches())
def test_every_fault_is_found(switch: str) -> None:
    race, violated = FOUND_IN[switch]
    result = explore(system(race, replace(Broken(), **{switch: True})), shortest=True)
    assert result.violation is not None
    assert result.violation.violated == violated
    print(result.violation)
