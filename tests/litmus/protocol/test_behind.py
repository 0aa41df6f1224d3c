"""What is behind a cache: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.behind import Broken, World, check, initial, races, switches

FOUND_IN = {
    "deletes_at_once": "set and deleted",
    "hand_unseen": "set and deleted",
    "hand_late": "set and deleted",
    "failure_forgotten": "a write fails",
    "load_unmarked": "set and deleted",
    "left_out": "no room",
    "waits_midway": "waits for room",
    "child_believes": "a child",
    "cleared_beside": "cleared",
    "clear_unseen": "cleared",
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    return ThreadedSystem(initial(), programs, check=check)


@pytest.mark.parametrize(
    "race", [pytest.param(race, marks=pytest.mark.slow if race == "two readers" else ()) for race in races()]
)
def test_every_interleaving_is_right(race: str) -> None:
    result = explore(system(race, Broken()))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize("switch", switches())
def test_every_fault_is_found(switch: str) -> None:
    result = explore(system(FOUND_IN[switch], replace(Broken(), **{switch: True})), shortest=True)
    assert result.violation is not None
    assert result.violation.violated == "newest"
    print(result.violation)
