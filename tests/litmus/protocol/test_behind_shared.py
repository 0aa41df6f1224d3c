"""What is behind a shared cache: every interleaving of its races, and every deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.behind_shared import Broken, World, check, initial, races, switches

FOUND_IN = {
    "turn_unasked": "set and deleted",
    "hand_unseen": "set and deleted",
    "duty_dies": "a client is killed",
    "unfiled": "the keeper is killed",
    "hand_unfiled": "the keeper is killed",
    "done_early": "set and deleted",
    "done_by_anybody": "set and deleted",
    "behind_believed": "set twice",
    "reading_kept": "read and deleted",
    "cleared_beside": "cleared",
}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    return ThreadedSystem(initial(), programs, check=check)


@pytest.mark.parametrize("race", races())
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
