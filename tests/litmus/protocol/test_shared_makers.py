"""Makers that need each other's values, of two processes: nobody waits for ever, and each deliberate fault is found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from mvolatile.explore import ThreadedSystem, explore
from mvolatile.model.stock.shared_makers import Broken, World, check, races, switches

VIOLATED = {"waits_within": "deadlock", "holding_untold": "deadlock", "owner_stores": "lease"}


def system(race: str, broken: Broken) -> ThreadedSystem[World]:
    programs = {name: partial(program, broken) for name, program in races()[race].items()}
    return ThreadedSystem(World(), programs, check=check)


@pytest.mark.parametrize("race", races())
def test_every_interleaving_is_right(race: str) -> None:
    result = explore(system(race, Broken()))
    assert result.violation is None, result.violation
    print(race, result)


@pytest.mark.parametrize("switch", switches())
def test_every_fault_is_found(switch: str) -> None:
    (race,) = races()
    result = explore(system(race, replace(Broken(), **{switch: True})), shortest=True)
    assert result.violation is not None
    assert result.violation.violated == VIOLATED[switch]
    print(result.violation)
